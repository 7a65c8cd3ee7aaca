"""Result types of the planner: plans with windows, reasons, alternatives, a bound and congestion prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Reason(StrEnum):
    """Reasons of the condition `Planned`; the first group leads to a start, the second holds or refuses."""

    CLEANER_WINDOW = "CleanerWindow"
    RUN_NOW = "RunNow"
    NO_SLACK = "NoSlack"
    SAVING_BELOW_THRESHOLD = "SavingBelowThreshold"
    FALLBACK_NO_FORECAST = "FallbackNoForecast"
    DURATION_UNKNOWN = "DurationUnknown"
    USER_FORCED = "UserForced"
    OBSERVING = "Observing"

    DEADLINE_TOO_SOON = "DeadlineTooSoon"
    NO_ALLOWED_REGION = "NoAllowedRegion"
    AWAITING_FORECAST = "AwaitingForecast"
    CAPACITY_FULL = "CapacityFull"


SOONEST = (  # work with these reasons runs as soon as there is room, whatever the carbon
    Reason.NO_SLACK,
    Reason.FALLBACK_NO_FORECAST,
    Reason.DURATION_UNKNOWN,
    Reason.USER_FORCED,
    Reason.DEADLINE_TOO_SOON,
    Reason.CAPACITY_FULL,
)


@dataclass(frozen=True, slots=True)
class Window:
    """An interval [start, end) in one region, with its expected emissions (None where no forecast covers it)."""

    region: str
    start: datetime
    end: datetime
    emissions_g: float | None = None

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def __contains__(self, moment: object) -> bool:
        return isinstance(moment, datetime) and self.start <= moment < self.end


@dataclass(frozen=True, slots=True)
class Alternative:
    """An alternative to the plan: the best windows of a region, or why it has none.

    Attributes:
        capacity_g: price of the room that it would hold, in grams: what the room is worth to the rest of the fleet.
        level_name: see `JobPlan`.
    """

    region: str
    windows: tuple[Window, ...]
    emissions_g: float | None
    excluded_by: str = ""
    capacity_g: float = 0.0
    level_name: str = ""

    @property
    def place(self) -> str:
        """Region, and the level if there is one."""
        return f"{self.region} at {self.level_name}" if self.level_name else self.region


@dataclass(frozen=True, slots=True)
class JobPlan:
    """The plan of one job.

    Attributes:
        windows: in order of time; empty only where `reason` refuses or awaits.
        emissions_g: expected grams of the whole job: emitted so far, plus the windows; None where a window is not
            covered by a forecast.
        run_now_g: expected grams of running the whole job at submission, at home, without a pause.
        latest_start: see `Work.latest_start`.
        feasible: whether the windows end by the finish-by time.
        edge: whether the windows touch the end of the forecast: a longer forecast may allow better ones.
        alternatives: the best of each other region and shape, cheapest first.
        vintages: (zone, hash of the forecast issue) of each forecast used.
        capacity_g: price of the room that it holds, in grams; 0 where nothing competes. Never part of the emissions:
            the planner compares emissions_g + capacity_g.
        level, level_name: index and name of the power level; None and '': as declared.
        go_on_g: of a live run, expected grams of the whole job if it continued without a break, whether or not there is
            room; None without a live run, or where the hours are unknown.
    """

    key: str
    reason: Reason
    windows: tuple[Window, ...]
    emissions_g: float | None
    run_now_g: float | None
    latest_start: datetime
    feasible: bool
    explanation: str
    edge: bool = False
    alternatives: tuple[Alternative, ...] = ()
    vintages: tuple[tuple[str, str], ...] = ()
    demo: bool = False
    capacity_g: float = 0.0
    level: int | None = None
    level_name: str = ""
    go_on_g: float | None = None

    @property
    def pause_pays(self) -> bool:
        """Whether pausing the live run emits less than continuing it, resumes included."""
        return self.emissions_g is not None and self.go_on_g is not None and self.emissions_g < self.go_on_g

    @property
    def saved_g(self) -> float | None:
        """Expected saving against running now at home; may be negative."""
        if self.emissions_g is None or self.run_now_g is None:
            return None
        return self.run_now_g - self.emissions_g

    @property
    def saved_share(self) -> float | None:
        if self.saved_g is None or not self.run_now_g:
            return None
        return self.saved_g / self.run_now_g

    def window_at(self, moment: datetime) -> Window | None:
        return next((w for w in self.windows if moment in w), None)

    def next_start(self, moment: datetime) -> datetime | None:
        """The next planned start after `moment`."""
        return min((w.start for w in self.windows if w.start > moment), default=None)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A lower bound for every plan of the same work on the same forecasts that keeps the capacities.

    Attributes:
        plan_g: expected grams of the windows of all work that had a choice.
        bound_g: lower bound of `plan_g` over all such plans (docs/planning.md 4).
    """

    plan_g: float
    bound_g: float

    @classmethod
    def total(cls, parts: Sequence[Certificate]) -> Certificate | None:
        """The certificate of several sets of work together; None where there are none."""
        return cls(sum(c.plan_g for c in parts), sum(c.bound_g for c in parts)) if parts else None

    @property
    def gap(self) -> float:
        """By which share of the bound the plan is above it, at most."""
        return self.plan_g / self.bound_g - 1.0 if self.bound_g > 0 else 0.0


@dataclass(frozen=True, slots=True)
class CapacityPrices:
    """Congestion prices: what one more unit of a resource would save the fleet, in grams per unit and period.

    Attributes:
        start: of the first period.
        step: length of a period.
        rows: (region, resource) -> one price a period; rows of zeros are left out.
    """

    start: datetime
    step: timedelta
    rows: Mapping[tuple[str, str], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a whole fleet.

    Attributes:
        jobs: job key -> its plan.
        certificate: of the work that had a choice and has a place in time; None where there is none.
        prices: congestion prices, the first guess of the next plan; None where no capacity was contended.
    """

    planned_at: datetime
    jobs: Mapping[str, JobPlan]
    certificate: Certificate | None = None
    prices: CapacityPrices | None = None
