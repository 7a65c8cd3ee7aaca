"""Runs that are groups of pods: what is added to each template, and what stays its author's."""

import pytest
from engines.bodies import NODES, POD, REGION, facts, rendered
from engines.test_conformance import templates

from windward.cluster.engines import ENGINES
from windward.manifests.pod import LABEL_UID, RuntimeImage

BY_KIND = {e.resource.kind: e for e in ENGINES}
PATCHED = "windward.dev/greenjob"


def test_labels_and_annotations_of_a_template_are_those_of_its_object():
    job, job_set = rendered(BY_KIND["Job"], "JobTemplate"), rendered(BY_KIND["JobSet"], "JobSet")
    assert job["metadata"]["labels"]["team"] == "a"
    assert job_set["metadata"]["annotations"] == {"alpha.jobset.sigs.k8s.io/exclusive-topology": "rack"}


def test_a_job_keeps_its_own_spec_and_waits_for_a_pod_to_end_before_it_is_replaced():
    spec = rendered(BY_KIND["Job"], "JobTemplate")["spec"]
    assert (spec["parallelism"], spec["completions"], spec["completionMode"]) == (2, 4, "Indexed")
    assert spec["podReplacementPolicy"] == "Failed" and "backoffLimit" not in spec and "suspend" not in spec
    own = {"jobTemplate": {"spec": {"podReplacementPolicy": "TerminatingOrFailed", "backoffLimit": 9, "template": POD}}}
    kept = BY_KIND["Job"].render(facts("JobTemplate", **own), RuntimeImage("w:1"))["spec"]
    assert (kept["podReplacementPolicy"], kept["backoffLimit"]) == ("TerminatingOrFailed", 9)


def test_jobs_of_a_set_are_labelled_since_they_join_pods_to_it():
    for job in rendered(BY_KIND["JobSet"], "JobSet")["spec"]["replicatedJobs"]:
        assert job["template"]["metadata"]["labels"][LABEL_UID] == facts().job.metadata.uid


def patch_of(body):
    ours = body["spec"]["runtimePatches"][-1]
    assert ours["manager"] == PATCHED
    return ours["trainingRuntimeSpec"]["template"]


def test_a_train_job_is_completed_by_our_patch_after_those_of_others_and_by_the_trainers_environment():
    body = rendered(BY_KIND["TrainJob"], "TrainJob")
    assert [p["manager"] for p in body["spec"]["runtimePatches"]] == ["me.example/x", PATCHED]
    patch = patch_of(body)
    assert [j["name"] for j in patch["spec"]["replicatedJobs"]] == ["node", "launcher"]
    labels = [patch["metadata"]["labels"]]
    for job in patch["spec"]["replicatedJobs"]:
        labels += [job["template"]["metadata"]["labels"], job["template"]["spec"]["template"]["metadata"]["labels"]]
    assert all(one[LABEL_UID] == facts().job.metadata.uid for one in labels), "of JobSet, Jobs and pods"
    env = {e["name"]: e["value"] for e in body["spec"]["trainer"]["env"]}
    assert env["WINDWARD_JOB"] == "mine", "the author's own wins"
    assert env["WINDWARD_RUN"].endswith("-3") and len(body["spec"]["trainer"]["env"]) == len(env)
    assert body["spec"]["trainer"]["numNodes"] == 3


def test_a_train_job_says_nothing_in_a_patch_that_its_trainer_refuses():
    """Kubeflow Trainer takes no `env` of the containers node and *-initializer in a patch."""
    pods = [j["template"]["spec"]["template"] for j in patch_of(rendered(BY_KIND["TrainJob"], "TrainJob"))["spec"][
        "replicatedJobs"
    ]]  # fmt: skip
    assert [p["spec"] for p in pods] == [NODES, NODES]


def test_storage_reaches_every_container_and_of_a_train_job_the_trainer():
    storage = {"storage": {"claim_name": "disk"}}
    for kind, work in (("Job", "JobTemplate"), ("JobSet", "JobSet")):
        body = BY_KIND[kind].render(facts(work, **storage), RuntimeImage("w:1"))
        for template in templates(body):
            assert template["spec"]["volumes"][-1]["persistentVolumeClaim"] == {"claimName": "disk"}
            assert all(c["volumeMounts"] for c in template["spec"]["containers"])
    body = BY_KIND["TrainJob"].render(facts("TrainJob", **storage), RuntimeImage("w:1"))
    node, launcher = (j["template"]["spec"]["template"]["spec"] for j in patch_of(body)["spec"]["replicatedJobs"])
    assert node["volumes"][0]["persistentVolumeClaim"] == {"claimName": "disk"}
    assert node["containers"][0]["name"] == "node" and "volumes" not in launcher
    assert "WINDWARD_CHECKPOINT_DIR" in {e["name"] for e in body["spec"]["trainer"]["env"]}


def test_a_region_of_any_nodes_leaves_selectors_alone():
    anywhere = REGION.model_copy(update={"spec": REGION.spec.model_copy(update={"node_selector": {}})})
    body = rendered(BY_KIND["TrainJob"], "TrainJob", region=anywhere)
    assert all("spec" not in j["template"]["spec"]["template"] for j in patch_of(body)["spec"]["replicatedJobs"])


@pytest.mark.parametrize(
    ("work", "resources"),
    [
        ({"train": {"steps": 1}}, {"requests": {"cpu": "1"}}),
        ({"train": {"steps": 1, "threads": 4}}, {"requests": {"cpu": "4"}}),
        (
            {"train": {"steps": 1, "threads": 4, "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "2"}}}},
            {"limits": {"nvidia.com/gpu": "1", "cpu": "2"}},
        ),
        (
            {"infer": {"model": {"path": "m"}, "prompts": ["x"], "resources": {"requests": {"memory": "4Gi"}}}},
            {"requests": {"cpu": "1", "memory": "4Gi"}},
        ),
    ],
)
def test_resources_of_our_own_runtime_reach_its_container(work, resources):
    body = BY_KIND["Job"].render(facts("Job", level="", power=None, template=None, **work), RuntimeImage("w:1"))
    assert body["spec"]["template"]["spec"]["containers"][0]["resources"] == resources
