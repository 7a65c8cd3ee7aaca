"""What the status of a managed workload says of its queue."""

from datetime import timedelta

import pytest
from managed.bodies import NOON, job, kueue_workload, pod, seen

from windward.cluster.managed_runs import runs_of
from windward.domain.observed import Observed
from windward.lifecycle.status import Context, status_of
from windward_api.managed import JOB, read_managed

NO_QUOTA = {"QuotaReserved": (5, "Pending", "insufficient quota for cpu in flavor north", "False")}
ADMITTED = {"Admitted": (5, "Admitted", "", "True")}


def admitted(queue, conditions, pods=()):
    body = job(kept={"attempt": 1, "attemptRegion": "north"}, suspend=not pods)
    shown = seen(body, pods, workload=kueue_workload(**conditions), queued=bool(queue))
    observed = Observed(read_managed(body, JOB, {}, queue=queue), runs_of(shown))
    status = status_of(observed, None, [], NOON + timedelta(hours=1), Context({}))
    (condition,) = [c for c in status.conditions if c.type == "Admitted"]
    return condition.status, condition.reason, condition.message


@pytest.mark.parametrize(
    ("queue", "conditions", "pods", "told"),
    [
        ("team", NO_QUOTA, (), ("False", "AwaitingQuota", "Pending: insufficient quota for cpu in flavor north")),
        ("team", ADMITTED, (pod(running=10),), ("True", "Queued", "LocalQueue team")),
        ("", {}, (pod(running=10),), ("True", "NoQueue", "")),
    ],
    ids=["no quota", "admitted", "no queue"],
)
def test_admitted_says_what_the_queue_says(queue, conditions, pods, told):
    status, reason, message = admitted(queue, conditions, pods)
    assert (status, reason) == told[:2]
    assert message.startswith(told[2])
