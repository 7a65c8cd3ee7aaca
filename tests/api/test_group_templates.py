"""Templates of Jobs, JobSets and TrainJobs: what Windward cannot honour is refused, with the field and the fix."""

import pytest
from api.test_kinds import EXAMPLES
from lifecycle.cases import greenjob
from pydantic import ValidationError

from windward.manifests.process import NotLocal, local_command
from windward_api.group_templates import read_template
from windward_api.sentences import sentences

POD = {"spec": {"containers": [{"name": "main", "image": "x"}]}}


def job(metadata=None, pod=POD, **spec):
    return {"metadata": metadata or {}, "spec": {"template": pod, **spec}}


def job_set(inner=None, metadata=None, **spec):
    jobs = [{"name": "workers", "template": inner or job()}]
    return {"metadata": metadata or {}, "spec": {"replicatedJobs": jobs, **spec}}


def train_job(metadata=None, **spec):
    return {"metadata": metadata or {}, "spec": {"runtimeRef": {"name": "torch"}, **spec}}


HELD = "Windward starts and pauses the runs: remove it, and hold the GreenJob with spec.suspend"
REFUSED = [
    ("jobTemplate", {}, "spec.jobTemplate.spec: is required"),
    ("jobTemplate", {"spec": {}}, "spec.jobTemplate.spec.template: is required"),
    ("jobTemplate", job(pod={"spec": {}}), "spec.jobTemplate.spec.template.spec.containers: is required"),
    ("jobTemplate", job(suspend=True), f"spec.jobTemplate.spec.suspend: {HELD}"),
    ("jobTemplate", job(suspend=False), f"spec.jobTemplate.spec.suspend: {HELD}"),
    ("jobTemplate", job(activeDeadlineSeconds=60), "spec.jobTemplate.spec.activeDeadlineSeconds: it would fail a run"),
    ("jobTemplate", job(ttlSecondsAfterFinished=0), "spec.jobTemplate.spec.ttlSecondsAfterFinished: a run would be"),
    ("jobTemplate", job(managedBy="x.y/z"), "spec.jobTemplate.spec.managedBy: Windward reads"),
    ("jobTemplate", job(manualSelector=True), "spec.jobTemplate.spec.manualSelector: Kubernetes selects"),
    ("jobTemplate", job(parallelism=0), "spec.jobTemplate.spec.parallelism: Input should be greater than"),
    ("jobTemplate", job({"name": "mine"}), "spec.jobTemplate.metadata.name: each run has a name"),
    ("jobTemplate", job({"labels": {"kueue.x-k8s.io/queue-name": "q"}}), "a queue would start and pause a run beside"),
    ("jobTemplate", job({"annotations": {"windward.dev/paused-at": "x"}}), "names with windward.dev/ are Windward's"),
    (
        "jobTemplate", job(pod={"spec": {**POD["spec"], "restartPolicy": "OnFailure"}}),
        "spec.jobTemplate.spec.template.spec.restartPolicy: must be Never",
    ),
    ("jobSetTemplate", {"spec": {"replicatedJobs": []}}, "spec.jobSetTemplate.spec.replicatedJobs: needs at least one"),
    ("jobSetTemplate", job_set(suspend=True), f"spec.jobSetTemplate.spec.suspend: {HELD}"),
    ("jobSetTemplate", job_set(ttlSecondsAfterFinished=9), "spec.jobSetTemplate.spec.ttlSecondsAfterFinished: a run"),
    (
        "jobSetTemplate", job_set(job(activeDeadlineSeconds=60)),
        "spec.jobSetTemplate.spec.replicatedJobs[0].template.spec.activeDeadlineSeconds: it would fail a run",
    ),
    ("trainJobTemplate", {"spec": {}}, "spec.trainJobTemplate.spec.runtimeRef: is required"),
    ("trainJobTemplate", train_job(suspend=True), f"spec.trainJobTemplate.spec.suspend: {HELD}"),
    ("trainJobTemplate", train_job(activeDeadlineSeconds=1), "spec.trainJobTemplate.spec.activeDeadlineSeconds: it"),
    (
        "trainJobTemplate", train_job(runtimePatches=[{"manager": "windward.dev/greenjob"}]),
        "spec.trainJobTemplate.spec.runtimePatches: manager windward.dev/greenjob is Windward's own",
    ),
    ("trainJobTemplate", train_job(trainer={"env": [{"value": "x"}]}), "trainer.env[0].name: is required"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "body", "sentence"), REFUSED, ids=[s[:70] for *_, s in REFUSED])
def test_what_would_act_beside_windward_is_refused_with_the_field_and_the_fix(field, body, sentence):
    with pytest.raises(ValidationError) as refused:
        greenjob(**{"template": None, field: body})
    assert sentence in "; ".join(sentences(refused.value))


@pytest.mark.parametrize(
    "field,body",
    [
        ("jobTemplate", job({"labels": {"team": "a"}}, completionMode="Indexed", completions=4, backoffLimit=3, x=[1])),
        ("jobSetTemplate", job_set(metadata={"annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "rack"}})),
        ("trainJobTemplate", train_job(runtimePatches=[{"manager": "me.example/x"}])),
    ],
)
def test_a_template_is_kept_as_it_was_written(field, body):
    spec = greenjob(**{"template": None, field: body}).spec
    assert spec.work == body


def test_the_pods_that_end_well_before_all_is_done_are_counted():
    assert read_template("jobTemplate", job(completions=8, parallelism=2)).spec.expected_pods == 8
    assert read_template("jobTemplate", job(parallelism=3)).spec.expected_pods == 3
    assert read_template("jobSetTemplate", EXAMPLES["jobSetTemplate"]).spec.expected_pods == 7
    assert read_template("trainJobTemplate", EXAMPLES["trainJobTemplate"]).spec.expected_pods == 4


def test_a_train_job_names_the_jobs_of_its_runtime_by_what_it_loads_and_patches():
    patch = {"template": {"spec": {"replicatedJobs": [{"name": "launcher"}, {"name": "node"}]}}}
    body = train_job(
        initializer={"dataset": {"storageUri": "hf://x"}},
        runtimePatches=[{"manager": "me.example/x", "trainingRuntimeSpec": patch}],
    )
    spec = read_template("trainJobTemplate", body).spec
    assert spec.replicated_jobs == ("node", "dataset-initializer", "launcher")


@pytest.mark.parametrize(
    ("resources", "sentence"),
    [
        ({"requests": {"cpu": "lots"}}, "spec.train.resources.requests.cpu: 'lots' is not a quantity"),
        ({"limits": {"memory": "-1"}}, "spec.train.resources.limits.memory: '-1' is negative"),
        ({"requests": {"cpu": 2}}, "spec.train.resources.requests.cpu: Input should be a valid string"),
        ({"claims": []}, "spec.train.resources.claims: unknown field"),
    ],
)
def test_resources_of_our_own_runtime_are_quantities(resources, sentence):
    with pytest.raises(ValidationError) as refused:
        greenjob(template=None, train={"steps": 1, "resources": resources})
    assert [s for s in sentences(refused.value) if s.startswith(sentence)]


@pytest.mark.parametrize("field", ["jobTemplate", "jobSetTemplate", "trainJobTemplate"])
def test_a_group_does_not_run_on_a_laptop(field):
    with pytest.raises(NotLocal, match=f"spec.{field}: a local run is one process: apply it to a cluster"):
        local_command(greenjob(**{"template": None, field: EXAMPLES[field]}))
