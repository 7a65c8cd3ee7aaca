"""Which grid feeds a cloud region, and with what PUE: a published table to start from, which users may override."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

SOURCE = "Green Software Foundation, real-time-cloud (b2858aa2)"
UNKNOWN_SITE_PUE = "1.5"  # carbon-data reference: an unknown site lies between 1.5 and 1.6; an operator should ask


@dataclass(frozen=True, slots=True)
class CloudRegion:
    """One region of a cloud provider.

    Attributes:
        zone: Electricity Maps zone; '' where the table knows none.
        watttime_region: region name of WattTime; '' where unknown.
        pue, pue_year: newest published value; None where there is none. Never guessed.
    """

    provider: str
    region: str
    location: str
    zone: str
    watttime_region: str
    pue: float | None
    pue_year: int | None

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.region}"


@lru_cache(maxsize=1)
def cloud_regions() -> tuple[CloudRegion, ...]:
    """All regions, by provider and name."""
    text = (files("windward.grid") / "regions" / "cloud_regions.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(
        CloudRegion(
            provider=r["provider"],
            region=r["region"],
            location=r["location"],
            zone=r["em_zone"],
            watttime_region=r["watttime_region"],
            pue=float(r["pue"]) if r["pue"] else None,
            pue_year=int(r["pue_year"]) if r["pue_year"] else None,
        )
        for r in rows
    )


def search(words: str) -> list[CloudRegion]:
    """Regions in which every word occurs, in provider, region, place or zone, whatever its case."""
    wanted = words.lower().split()
    return [
        r
        for r in cloud_regions()
        if all(w in f"{r.name} {r.location} {r.zone} {r.watttime_region}".lower() for w in wanted)
    ]
