"""Energy used by runs, as rows that a stranger can weigh again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class EnergyInterval:
    """Joules of one component of one run over [start, end), at the meter (before PUE).

    The key (uid, attempt, pod_uid, component, start) is unique in the ledger, so that a row recorded twice counts once.

    Attributes:
        uid: uid of the GreenJob.
        attempt: number of the run.
        pod_uid: uid of the pod, or of the local process.
        component: `cpu`, `gpu`, `dram`, `other`.
        method: `measured`, `modelled` or `estimated`.
        source: meter, for example `nvml`, `rapl`, `model:declared-watts`.
        region, zone, pue: where it was used, as it stood then.
        time_scale: planned seconds per real second: 1, but for a warped clock, where measured watts count over
            simulated hours (joules are already scaled).
    """

    uid: str
    attempt: int
    pod_uid: str
    component: str
    start: datetime
    end: datetime
    joules: float
    method: str
    source: str
    region: str
    zone: str
    pue: float
    time_scale: float = 1.0
