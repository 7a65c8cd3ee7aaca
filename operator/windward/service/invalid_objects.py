"""Reports in the status of an object that it cannot be read, or that a step of the cycle failed for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from windward.cluster import BadObject, Cluster
from windward.domain.observed import Observed
from windward.lifecycle.status import refused, stalled
from windward.service.guard import Fault
from windward_api.greencronjob import GreenCronJobStatus
from windward_api.greenjob_status import GreenJobStatus
from windward_api.greenregion import GreenRegionStatus
from windward_api.meta import Condition, transition

log = logging.getLogger(__name__)
AnyStatus = GreenJobStatus | GreenCronJobStatus | GreenRegionStatus
_STATUS: Mapping[str, type[GreenJobStatus] | type[GreenCronJobStatus] | type[GreenRegionStatus]] = {
    "GreenCronJob": GreenCronJobStatus,
    "GreenRegion": GreenRegionStatus,
}


def report_invalid(cluster: Cluster, bad: BadObject, now: datetime) -> None:
    """Writes into the status of an unreadable object what is wrong with it; does nothing if it says so already."""
    old = _old(bad.kind, bad.status)
    if isinstance(old, GreenJobStatus):
        new: AnyStatus = refused(bad.generation, old, bad.message, now)
    else:
        refusal = Condition(type="Accepted", status="False", reason="InvalidSpec", message=bad.message[:1024])
        conditions = transition(old.conditions, (refusal,), now, bad.generation)
        new = old.model_copy(update={"observed_generation": bad.generation, "conditions": conditions})
    if new != old:
        log.warning("%s %s: %s", bad.kind, bad.key, bad.message)
        cluster.write_bad(bad, new)


def _old(kind: str, status: Mapping[str, Any]) -> AnyStatus:
    model = _STATUS.get(kind, GreenJobStatus)  # a managed workload has a GreenJob's
    try:
        return model.model_validate(status)
    except ValueError:
        return model()


def report_fault(cluster: Cluster, observed: Observed, fault: Fault, now: datetime) -> None:
    """Writes into a job's status that a step of the cycle failed for it, and when it is tried again."""
    old = observed.job.status
    new = stalled(observed.job.metadata.generation, old, fault.sentence(), now)
    if new != old:
        cluster.write_status(observed.job, new, [])
