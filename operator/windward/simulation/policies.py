"""Policies to compare, all as planners with the signature of `plan`, so that the same controller follows each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from windward import planning
from windward.domain.fleet import Fleet, Work
from windward.domain.forecast import Forecast
from windward.domain.plan import JobPlan, Plan

Planner = Callable[[Fleet, Mapping[str, Forecast], datetime, Plan | None], Plan]


@dataclass(frozen=True, slots=True)
class Policy:
    """A way to place work.

    Attributes:
        make: a fresh planner; policies that remember do so between two calls of one planner.
        perfect: knows the coming hours whatever the simulation's foresight is.
    """

    name: str
    what: str
    make: Callable[[], Planner]
    perfect: bool = False


def run_now(fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, previous: Plan | None = None) -> Plan:
    """Each job at once, at home, as soon as there is room: what happens without any of this."""
    work = tuple(replace(w, asap=True, regions=(w.home,), interruptible=False) for w in fleet.work)
    return planning.plan(replace(fleet, work=work), forecasts, now, previous)


def greenest_now(fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, previous: Plan | None = None) -> Plan:
    """Each job at once, in the region that is cleanest now and has room: moves, never waits."""
    work = tuple(replace(w, asap=True, interruptible=False) for w in fleet.work)
    return planning.plan(replace(fleet, work=work), forecasts, now, previous)


@dataclass
class Window:
    """Each job in its own best window, chosen once when it arrives, blind to all others: the usual tool."""

    def __call__(
        self, fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, previous: Plan | None = None
    ) -> Plan:
        alone = {n: replace(r, capacity={}) for n, r in fleet.regions.items()}
        blind = replace(fleet, regions=alone)
        return Plan(now, {w.key: self._one(w, blind, forecasts, now, previous) for w in fleet.work})

    @staticmethod
    def _one(
        work: Work, fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, previous: Plan | None
    ) -> JobPlan:
        once = replace(work, interruptible=False)
        chosen = previous.jobs.get(work.key) if previous is not None else None
        if chosen is not None and chosen.windows and (work.running_in is not None or chosen.windows[-1].start > now):
            return chosen
        if chosen is not None and chosen.windows:  # its time has come
            once = replace(once, asap=True, regions=(chosen.windows[-1].region,))
        return planning.plan(replace(fleet, work=(once,)), forecasts, now, None).jobs[work.key]


def windward(fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, previous: Plan | None = None) -> Plan:
    """The operator's own planner."""
    return planning.plan(fleet, forecasts, now, previous)


POLICIES = {
    p.name: p
    for p in (
        Policy("run-now", "at once, at home", lambda: run_now),
        Policy("greenest-now", "at once, in the region that is cleanest now", lambda: greenest_now),
        Policy("window", "best window of each job alone, chosen on arrival", Window),
        Policy("windward", "Windward, with this foresight", lambda: windward),
        Policy("clairvoyant", "Windward, knowing the coming hours", lambda: windward, perfect=True),
    )
}
