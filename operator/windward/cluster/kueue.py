"""What Kueue says of a workload: its Workload object, as JSON. Pure.

Source: Kueue v1beta2 API, `kueue.x-k8s.io`: conditions QuotaReserved, Admitted, Evicted; `spec.active`; the annotation
`admission-gated-by` (KEP-6915), which keeps a workload out of its queue until it is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from windward.cluster.kube_pods import moment

Body = Mapping[str, Any]
GROUP = "/apis/kueue.x-k8s.io/v1beta2"
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
GATES = "kueue.x-k8s.io/admission-gated-by"  # annotation of the job; Kueue copies it to the Workload
GATE = "windward.dev/greenjob"


@dataclass(frozen=True, slots=True)
class Admission:
    """Where a workload stands in its queue.

    Attributes:
        name: of its Workload; '' before Kueue made one.
        active: false keeps it out of the queue, and ends what runs of it.
        gated: it waits for its gate.
        admitted: it has quota, and may run.
        why: in Kueue's words, why it is not admitted or was evicted.
        since: when that became so.
    """

    name: str = ""
    active: bool = True
    gated: bool = False
    admitted: bool = False
    why: str = ""
    since: datetime | None = None

    @property
    def released(self) -> bool:
        """Whether Kueue may admit it without us."""
        return self.active and not self.gated


def queue_of(job: Body) -> str:
    """Returns the LocalQueue that an object names; '' where it names none."""
    return str((job["metadata"].get("labels") or {}).get(LABEL_QUEUE, ""))


def gates_of(job: Body) -> list[str]:
    """Returns the gates of an object."""
    text = (job["metadata"].get("annotations") or {}).get(GATES, "")
    return [gate.strip() for gate in text.split(",") if gate.strip()]


def without_gate(job: Body) -> str | None:
    """Returns the annotation without our gate; None where nothing is left of it."""
    return ",".join(gate for gate in gates_of(job) if gate != GATE) or None


def admission_of(job: Body, workload: Body | None) -> Admission:
    """Returns where a queued object stands; `workload` is None before Kueue made one."""
    gated = GATE in gates_of(job)
    if workload is None:
        return Admission(gated=gated, why="Kueue has not made its Workload yet")
    conditions = {c.get("type"): c for c in (workload.get("status") or {}).get("conditions") or []}
    admitted = _is_true(conditions, "Admitted")
    decisive = conditions.get("Evicted") if _is_true(conditions, "Evicted") else conditions.get("QuotaReserved")
    return Admission(
        name=str(workload["metadata"]["name"]),
        active=bool((workload.get("spec") or {}).get("active", True)),
        gated=gated,
        admitted=admitted,
        why=""
        if admitted or decisive is None
        else f"{decisive.get('reason', '')}: {decisive.get('message', '')}".strip(": "),
        since=None if decisive is None else moment(decisive.get("lastTransitionTime")),
    )


def workloads_by_owner(workloads: Iterable[Body]) -> dict[str, Body]:
    """Returns Workloads by the uid of the object that they stand for."""
    out: dict[str, Body] = {}
    for one in workloads:
        for owner in one["metadata"].get("ownerReferences") or ():
            if owner.get("controller"):
                out[str(owner.get("uid", ""))] = one
    return out


def _is_true(conditions: Mapping[Any, Body], kind: str) -> bool:
    return (conditions.get(kind) or {}).get("status") == "True"
