"""Queues as regions: which leads where, and what their quotas leave to our work."""

import pytest
from engines.rest_server import serving
from managed.bodies import job
from managed.test_adapter import NOW, POD, QUEUED, WORDS, put, put_workload

from windward.cluster import kueue
from windward.cluster.managed import ManagedWorkloads
from windward.cluster.managed_reader import ManagedReader
from windward.cluster.queue_regions import QueueRegions
from windward.cluster.quota import quotas
from windward.domain.clock import FixedClock
from windward.manifests import RunFacts
from windward.service.sync_regions import region_of
from windward_api.greenregion import GreenRegion
from windward_api.managed import JOB, read_managed

QUEUES = QueueRegions({"north": "q-north", "south": "q-south"})


def local(name, target, namespace="ml"):
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterQueue": target}}


def cluster_queue(name, *flavors):
    """Flavors as maps of resource -> nominal quota."""
    listed = [{"name": f"f{n}", "resources": [{"name": k, "nominalQuota": v} for k, v in one.items()]}
              for n, one in enumerate(flavors)]  # fmt: skip
    return {"metadata": {"name": name}, "spec": {"resourceGroups": [{"flavors": listed}]}}


def workload(owner, queue, *usages, reserved="True"):
    assignments = [{"name": f"p{n}", "resourceUsage": usage} for n, usage in enumerate(usages)]
    status = {
        "conditions": [{"type": "QuotaReserved", "status": reserved}],
        "admission": {"clusterQueue": queue, "podSetAssignments": assignments},
    }
    meta = {"name": f"w-{owner}", "ownerReferences": [{"uid": owner, "controller": True}]}
    return {"metadata": meta, "spec": {}, "status": status}


def test_a_quota_is_the_nominal_one_over_all_flavors():
    queue = cluster_queue("cq", {"cpu": "8", "nvidia.com/gpu": 4}, {"cpu": "500m"})
    left = quotas({"north": "q"}, [local("q", "cq")], [queue], [], set())
    assert left == {"north": {"cpu": 8.5, "nvidia.com/gpu": 4.0}}


def test_what_others_reserved_is_gone_and_what_ours_did_is_not():
    others = [workload("x", "cq", {"cpu": "1500m"}, {"cpu": "1"}), workload("y", "cq", {"cpu": "1"}, reserved="False")]
    ours = workload("u", "cq", {"cpu": "3"})
    left = quotas({"north": "q"}, [local("q", "cq")], [cluster_queue("cq", {"cpu": "8"})], [*others, ours], {"u"})
    assert left == {"north": {"cpu": 5.5}}


def test_a_quota_is_the_same_before_and_after_one_of_ours_starts():
    world = ({"north": "q"}, [local("q", "cq")], [cluster_queue("cq", {"cpu": "8"})])
    assert quotas(*world, [workload("u", "cq", {"cpu": "3"})], {"u"}) == quotas(*world, [], {"u"})


def test_queues_of_one_name_that_lead_to_several_cluster_queues_add_up_and_each_counts_once():
    queues = [local("q", "a"), local("q", "a", "other"), local("q", "b", "third")]
    clusters = [cluster_queue("a", {"cpu": "8"}), cluster_queue("b", {"cpu": "2"})]
    assert quotas({"north": "q"}, queues, clusters, [], set()) == {"north": {"cpu": 10.0}}


def test_reservations_beyond_the_nominal_quota_leave_nothing_and_not_less():
    borrowed = workload("x", "cq", {"cpu": "11"})
    left = quotas({"north": "q"}, [local("q", "cq")], [cluster_queue("cq", {"cpu": "8"})], [borrowed], set())
    assert left == {"north": {"cpu": 0.0}}


def test_a_region_whose_queue_leads_nowhere_is_not_bounded():
    assert quotas({"north": "q"}, [local("q", "gone")], [], [], set()) == {}
    assert quotas({"north": "q"}, [], [cluster_queue("cq", {"cpu": "8"})], [], set()) == {}


def test_the_planner_sees_the_smaller_of_what_is_declared_and_what_the_queue_leaves():
    body = {"metadata": {"name": "n"}, "spec": {"gridZone": "SE", "capacity": [{"resource": "cpu", "count": 4}]}}
    region = GreenRegion.model_validate(body)
    assert region_of(region, {"cpu": 8.0, "memory": 5.0}).capacity == {"cpu": 4.0, "memory": 5.0}
    assert region_of(region, {"cpu": 2.0}).capacity == {"cpu": 2.0}
    assert region_of(region).capacity == {"cpu": 4.0}


def queued(queue, **words):
    labels = {kueue.LABEL_QUEUE: queue} if queue else {}
    return job({f"windward.dev/{k}": v for k, v in words.items()}, labels)


def test_the_region_of_a_queue_is_the_word_where_none_is_said():
    assert QUEUES.words_of(queued("q-south")) == {"regions": "south"}
    assert QUEUES.words_of(queued("another")) == {}
    assert QUEUES.words_of(queued("")) == {}


@pytest.mark.parametrize(
    ("queue", "regions", "sentence"),
    [
        ("q-north", "north,south", ""),
        ("", "north", ""),
        ("", "north,south", "what has no queue stays where its nodes are"),
        ("q-north", "north,mars", "no queue leads to mars"),
    ],
)
def test_several_regions_need_a_queue_each(queue, regions, sentence):
    read = read_managed(queued(queue, regions=regions, home="north"), JOB, {}, queue=queue)
    if not sentence:
        assert QUEUES.checked(read) is read
        return
    with pytest.raises(ValueError, match=sentence):
        QUEUES.checked(read)


def test_a_workload_is_sent_to_a_region_by_its_queue_before_it_is_let_in():
    south = GreenRegion.model_validate({"metadata": {"name": "south"}, "spec": {"gridZone": "DE", "queue": "q-south"}})
    north = GreenRegion.model_validate({"metadata": {"name": "north"}, "spec": {"gridZone": "SE", "queue": "team"}})
    with serving() as (rest, api):
        clock = FixedClock(NOW)
        cluster = ManagedWorkloads(api, clock, ManagedReader(api, clock))
        rest.put("", "namespaces", {"metadata": {"name": "ml", "annotations": WORDS}})
        body = put(rest, labels=QUEUED, annotations={kueue.GATES: kueue.GATE, "windward.dev/regions": "north,south",
                                                     "windward.dev/home": "north"})  # fmt: skip
        put_workload(rest, body["metadata"]["uid"])
        (observed,) = cluster.snapshot((north, south)).jobs
        cluster.create_run(RunFacts(observed.job, 1, south))
        assert body["metadata"]["labels"][kueue.LABEL_QUEUE] == "q-south"
        assert kueue.GATES not in body["metadata"]["annotations"]
        assert body["spec"] == {"suspend": True, "template": POD}
