"""What Kueue's quotas leave to our workloads in each region. Pure.

A region's LocalQueues, one of the same name in each namespace, lead to ClusterQueues. Of their nominal quota, what
others have reserved is gone; what our own workloads have reserved is ours to plan with. So the figure does not change
when one of ours starts or ends, and a plan that rests on it stands. What could be borrowed is not counted: it may be
taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from windward.cluster.kueue import workloads_by_owner
from windward_api.quantity import parse_quantity

Body = Mapping[str, Any]
Units = dict[str, float]


def quotas(
    queue_of_region: Mapping[str, str],
    local_queues: Iterable[Body],
    cluster_queues: Iterable[Body],
    workloads: Iterable[Body],
    ours: Collection[str],
) -> dict[str, Units]:
    """Returns region -> units of each resource that our workloads may hold there together.

    Args:
        queue_of_region: region -> name of its LocalQueues.
        ours: uids of the objects whose Workloads are ours.
    """
    left = {str(q["metadata"]["name"]): _nominal(q) for q in cluster_queues}
    for owner, workload in workloads_by_owner(workloads).items():
        name, used = _reserved(workload)
        if owner not in ours and name in left:
            _subtract(left[name], used)
    targets: dict[str, set[str]] = {}
    for queue in local_queues:
        target = str((queue.get("spec") or {}).get("clusterQueue", ""))
        targets.setdefault(str(queue["metadata"]["name"]), set()).add(target)
    return {
        region: _sum(left[t] for t in sorted(targets[queue]) if t in left)
        for region, queue in queue_of_region.items()
        if targets.get(queue, set()) & left.keys()
    }


def _nominal(cluster_queue: Body) -> Units:
    """Nominal quota of a ClusterQueue, over all its flavors."""
    groups = (cluster_queue.get("spec") or {}).get("resourceGroups") or []
    resources = (r for group in groups for flavor in group.get("flavors") or [] for r in flavor.get("resources") or [])
    total: Units = {}
    for resource in resources:
        name = str(resource["name"])
        total[name] = total.get(name, 0.0) + float(parse_quantity(resource.get("nominalQuota", 0)))
    return total


def _reserved(workload: Body) -> tuple[str, Units]:
    """The ClusterQueue in which a Workload has reserved quota, and how much; ('', {}) where it has none."""
    status = workload.get("status") or {}
    conditions = {c.get("type"): c.get("status") for c in status.get("conditions") or []}
    admission = status.get("admission")
    if conditions.get("QuotaReserved") != "True" or not admission:
        return "", {}
    usages = [assignment.get("resourceUsage") or {} for assignment in admission.get("podSetAssignments") or []]
    units = [{str(name): float(parse_quantity(q)) for name, q in usage.items()} for usage in usages]
    return str(admission.get("clusterQueue", "")), _sum(units)


def _sum(parts: Iterable[Units]) -> Units:
    total: Units = {}
    for part in parts:
        for name, units in part.items():
            total[name] = total.get(name, 0.0) + units
    return total


def _subtract(total: Units, less: Units) -> None:
    for name in total.keys() & less.keys():
        total[name] = max(0.0, total[name] - less[name])
