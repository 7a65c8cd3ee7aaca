"""What goes wrong, by seed: the same seed gives the same faults, whatever the policy does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import blake2b

from windward.domain.durations import ASSUMED
from windward_api.greenjob import GreenJob


@dataclass(frozen=True, slots=True)
class Faults:
    """Rates of faults; all zero by default.

    Attributes:
        wrong_durations: relative error of declared durations: the true one is the declared times a factor drawn
            uniformly from [1 - x, 1 + x].
        late_jobs: share of jobs that take `late_factor` times as long as declared.
        lost_nodes_per_day: expected node losses per region and day; each takes the newest run there with it.
        reclaims_per_run_day: expected spot reclaims of a run per day that it runs: it is told to leave and pauses.
        outage_share: share of days on which no forecast can be fetched.
    """

    seed: int = 0
    wrong_durations: float = 0.0
    late_jobs: float = 0.0
    late_factor: float = 1.5
    lost_nodes_per_day: float = 0.0
    reclaims_per_run_day: float = 0.0
    outage_share: float = 0.0

    def nonzero_rates(self) -> dict[str, float]:
        """The rates that are not zero."""
        rates = {k: float(v) for k, v in asdict(self).items() if k != "seed"}
        if not self.late_jobs:
            del rates["late_factor"]
        return {k: v for k, v in rates.items() if v}

    def duration(self, job: GreenJob) -> timedelta:
        """What the job really takes, without interruption; one that declares nothing, an hour."""
        key = job.metadata.uid
        error = 1.0 + self.wrong_durations * (2.0 * self._draw("length", key) - 1.0)
        late = self.late_factor if self._draw("late", key) < self.late_jobs else 1.0
        return (job.spec.duration or ASSUMED) * error * late

    def outage(self, now: datetime) -> bool:
        """Whether the provider is down today."""
        return self._draw("outage", f"{now:%Y-%m-%d}") < self.outage_share

    def loses_node(self, region: str, since: datetime, until: datetime) -> bool:
        """Whether a node of the region is lost in [since, until)."""
        rate = self.lost_nodes_per_day * ((until - since) / timedelta(days=1))
        return rate > 0 and self._draw("node", f"{region} {since.isoformat()}") < rate

    def reclaims(self, run: str, since: datetime, until: datetime) -> bool:
        """Whether the run's spot node is reclaimed in [since, until)."""
        rate = self.reclaims_per_run_day * ((until - since) / timedelta(days=1))
        return rate > 0 and self._draw("spot", f"{run} {since.isoformat()}") < rate

    def _draw(self, what: str, key: str) -> float:
        """Uniform in [0, 1), a function of seed, fault and subject alone, so that no policy shifts another's luck."""
        digest = blake2b(f"{self.seed} {what} {key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64
