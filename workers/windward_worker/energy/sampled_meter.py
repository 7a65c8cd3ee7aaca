"""One meter's samples: what counts of them, and what stands in where it does not answer. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from windward_api.contract import Method
from windward_worker.control.errors import MeterError
from windward_worker.energy.meter import EnergyUnknown, Meter
from windward_worker.energy.model import DECLARED

SENSOR_LAG_S = 0.2  # a counter may show energy this much later than it was drawn
RECENT_S = 60.0  # a gap is estimated with the mean power of about so long before it


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Joules of one kind: they add up, and no other kind is mixed in."""

    component: str
    method: Method
    source: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What stands in for a gap."""

    key: SeriesKey
    joules: float
    from_s: float
    to_s: float


@dataclass(slots=True)
class SampledMeter:
    """One device's meter and what became of its samples."""

    meter: Meter
    declared_w: float | None = None
    last_j: float = 0.0
    last_s: float = 0.0
    clamped_j: float = 0.0
    failures: int = 0
    _failing: str = ""  # why it does not answer now
    _recent_j: float = 0.0
    _recent_s: float = 0.0
    _gaps: dict[str, tuple[float, float, str]] = field(default_factory=dict)  # by reason: seconds, joules, how

    def take(self, joules: float, at_s: float) -> float:
        """A reading; returns what counts of it since the last one."""
        passed_s = max(0.0, at_s - self.last_s)
        delta_j = max(0.0, joules - self.last_j)
        taken_j = min(delta_j, self.meter.max_w * (passed_s + SENSOR_LAG_S))
        self.clamped_j += delta_j - taken_j
        kept = math.exp(-passed_s / RECENT_S)
        self._recent_j, self._recent_s = self._recent_j * kept + taken_j, self._recent_s * kept + passed_s
        self.last_j, self.last_s, self._failing = max(joules, self.last_j), at_s, ""
        return taken_j

    def fail(self, error: MeterError) -> None:
        """No reading now; a later one may tell what this one did not."""
        self.failures += 1
        self._failing = str(error)

    def gap(self, why: EnergyUnknown, at_s: float) -> Estimate | None:
        """No reading, and none that will tell: the gap since the last one is closed with an estimate."""
        self.failures += 1
        if why.shared:
            self._recent_j = self._recent_s = 0.0
        return self._close(str(why), why.at_least_j, at_s)

    def give_up(self, at_s: float) -> Estimate | None:
        """Close the gap of a meter that does not answer; None where it does."""
        return self._close(self._failing, 0.0, at_s) if self._failing else None

    def pending(self, at_s: float) -> Estimate | None:
        """What `give_up` would give."""
        return self._estimate(0.0, at_s) if self._failing else None

    def _close(self, reason: str, at_least_j: float, at_s: float) -> Estimate | None:
        estimate = self._estimate(at_least_j, at_s)
        seconds, joules, how = self._gaps.get(reason, (0.0, 0.0, ""))
        seconds += at_s - self.last_s
        if estimate is not None:
            joules, how = joules + estimate.joules, estimate.key.source
        self._gaps[reason] = seconds, joules, how
        self.last_s, self._failing = at_s, ""
        return estimate

    def _estimate(self, at_least_j: float, at_s: float) -> Estimate | None:
        if self._recent_s > 0:
            power_w, source = self._recent_j / self._recent_s, f"mean power before, by {self.meter.source}"
        elif self.declared_w is not None:
            power_w, source = self.declared_w, DECLARED
        elif at_least_j > 0:
            power_w, source = 0.0, f"at least, by {self.meter.source}"
        else:
            return None
        joules = max(at_least_j, power_w * (at_s - self.last_s))
        if joules <= 0:
            return None
        return Estimate(SeriesKey(self.meter.component, Method.ESTIMATED, source[:64]), joules, self.last_s, at_s)

    def notes(self, at_s: float) -> list[str]:
        """One sentence for each kind of gap, cut or restart."""
        gaps = dict(self._gaps)
        if self._failing:
            open_ = self.pending(at_s)
            joules, how = (open_.joules, open_.key.source) if open_ is not None else (0.0, "")
            gaps[self._failing] = (at_s - self.last_s, joules, how)
        component, sentences = self.meter.component, []
        for reason, (seconds, joules, how) in gaps.items():
            if how:
                sentences.append(f"{component}: {joules:.0f} J of {seconds:.0f} s estimated ({how}): {reason[:160]}")
            else:
                sentences.append(f"{component}: {seconds:.0f} s not counted: {reason[:160]}")
        if self.clamped_j > 0:
            sentences.append(f"{component}: {self.clamped_j:.0f} J of implausible readings were cut")
        if resets := getattr(self.meter, "resets", 0):
            sentences.append(f"{component}: its counter restarted {resets} times")
        return sentences
