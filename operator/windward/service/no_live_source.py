"""A provider without data, for when no live source is chosen: real work must not wait on demonstration data."""

from __future__ import annotations

from datetime import datetime, timedelta

from windward.domain.series import Series
from windward.grid.port import NotEntitled, Provider

CAUSE = "no live source of carbon data is chosen, and the bundled DEMO TRACE 2022 is for rehearsals only"
FIX = "Name one with --provider: windward providers list shows them."


class NoLiveSource:
    """Lists the zones of the demonstration and raises `NotEntitled` for each of them."""

    revised_for = timedelta(0)
    attribution = ""

    def __init__(self, demo: Provider) -> None:
        self.name, self.kind = "no-live-source", demo.kind
        self._zones = demo.zones()

    def zones(self) -> tuple[str, ...] | None:
        return self._zones

    def issue(self, zone: str, now: datetime) -> Series:
        raise NotEntitled(zone, CAUSE, FIX)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        raise NotEntitled(zone, CAUSE, FIX)
