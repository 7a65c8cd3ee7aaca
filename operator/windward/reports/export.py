"""The export: receipts with all that a stranger needs to compute them again, and totals of what may be added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

Body = Mapping[str, Any]
SUMMED = ("energyJoules", "emissionsGrams", "runNowGrams", "savedGrams")
COUNTED = ("jobs", "provisional", "jobsWithoutEmissions", "jobsWithoutBaseline")
BOUNDARY = (
    "Operational emissions of the jobs' own runs, location-based, site overhead by PUE; without embodied carbon, data "
    "transfer, storage, the control plane and idle machines (docs/accounting.md)"
)


class Entry(Protocol):
    """A receipt of the ledger."""

    @property
    def body(self) -> Body: ...
    @property
    def sha256(self) -> str: ...
    @property
    def revision(self) -> int: ...
    @property
    def settled(self) -> bool: ...


def mark_of(body: Body) -> str:
    """Returns why a receipt may stand in no total of real ones; empty where it may."""
    marks = {
        "simulated": "simulated", "demo": "demonstration", "timeScale": "warped clock", "rehearsal": "rehearsal",
    }  # fmt: skip
    return next((mark for key, mark in marks.items() if key in body), "")


def kind_of(body: Body) -> str:
    """Returns the kinds of data (signal, scope, basis) that a receipt rests on; empty where nothing was known."""
    return ", ".join(sorted({str(source["kind"]) for source in body["intensity"]}))


def group_of(body: Body) -> tuple[str, str, str]:
    """Returns (kind of data, mark, outcome): only receipts that agree in all three are added up."""
    return kind_of(body), mark_of(body), str(body["outcome"])


def totals(bodies: Iterable[Body]) -> list[dict[str, Any]]:
    """Returns the sums of each group, in the order of the groups' names.

    An unknown figure counts as nothing in a sum: `jobsWithoutEmissions` and `jobsWithoutBaseline` say how many are
    missing from it, and `provisional` how many may still be revised.
    """
    groups: dict[tuple[str, str, str], dict[str, Any]] = {}
    for body in bodies:
        kind, mark, outcome = key = group_of(body)
        one = groups.setdefault(
            key,
            {"kind": kind, "mark": mark, "outcome": outcome, **dict.fromkeys(COUNTED, 0), **dict.fromkeys(SUMMED, 0.0)},
        )
        one["jobs"] += 1
        one["provisional"] += not body["settled"]
        one["jobsWithoutEmissions"] += body["emissionsGrams"] is None
        one["jobsWithoutBaseline"] += body["savedGrams"] is None
        for name in SUMMED:
            one[name] += body[name] or 0.0
    return [groups[key] for key in sorted(groups)]


def export_of(receipts: Iterable[Entry], version: str) -> dict[str, Any]:
    """Returns the export of these receipts as JSON; `windward.tools.verify` computes it again."""
    entries = list(receipts)
    return {
        "apiVersion": "cli.windward.dev/v1",
        "kind": "Export",
        "versions": {"windward": version, "receipt": "cli.windward.dev/v1"},
        "boundary": BOUNDARY,
        "totals": totals([e.body for e in entries]),
        "receipts": [
            {"sha256": e.sha256, "revision": e.revision, "settled": e.settled, "body": dict(e.body)} for e in entries
        ],
    }
