"""The API server refuses what the models refuse, with the same sentences; and takes every example as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.kube import Kube

from windward_api import greencronjob, greenjob, kinds, schedule, workload

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
Body = dict[str, Any]
TRAINING, INFERENCE = kinds.KIND_OF_FIELD["train"], kinds.KIND_OF_FIELD["infer"]


@pytest.fixture(scope="module", autouse=True)
def crds(kube: Kube) -> None:
    """The definitions as they are generated, whether a release brought them or not."""
    kube.apply(*sorted((ROOT / "crds").glob("*.yaml")))
    for plural in ("greenjobs", "greencronjobs", "greenregions"):
        kube.kubectl("wait", "--for=condition=Established", f"crd/{plural}.windward.dev", "--timeout=30s")


def job(**spec: Any) -> Body:
    whole = {
        "completeWithin": "18h",
        "duration": "4h",
        "placement": {"regions": ["north", "central"], "home": "central"},
        "train": {"steps": 10},
    }
    merged = {k: v for k, v in (whole | spec).items() if v is not None}
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": "one", "namespace": "default"},
        "spec": merged,
    }


def cron(**spec: Any) -> Body:
    template = {k: v for k, v in job(completeWithin=None)["spec"].items() if k != "completeWithin"}
    inner = template | spec.pop("job", {})
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenCronJob",
        "metadata": {"name": "one", "namespace": "default"},
        "spec": {"schedule": "0 20 * * *", "window": "11h", "jobTemplate": {"spec": inner}, **spec},
    }


def region(**spec: Any) -> Body:
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenRegion",
        "metadata": {"name": "one"},
        "spec": {"gridZone": "DE", **spec},
    }


def levels(*names: str, **more: Any) -> Body:
    return {"watts": 200, "levels": [{"name": n, "watts": 100, "duration": "5h", **more} for n in names]}


REFUSED = [
    (job(deadline="2030-01-01T00:00:00Z"), greenjob.ONE_FINISH),
    (job(completeWithin=None), greenjob.ONE_FINISH),
    (job(train=None), kinds.ONE_WORK),
    (job(template={"spec": {}}), kinds.ONE_WORK),
    (job(placement={"regions": ["north", "central"]}), greenjob.HOME_NEEDED),
    (job(placement={"regions": ["north"], "home": "south"}), greenjob.HOME_KNOWN),
    (job(duration="19h"), greenjob.LONG_ENOUGH),
    (job(interruption={"policy": "Never", "overhead": "3m"}), greenjob.OVERHEAD_USED),
    (job(power={"watts": 200, "capWatts": 250}), TRAINING.cap_refused),
    (job(train=None, template={"spec": {}}, power={"watts": 200, "capWatts": 150}), greenjob.CAP_ABOVE),
    (job(power=levels("a")), TRAINING.levels_refused),
    (job(train=None, template={"spec": {}}, power=levels("a", "a")), ".spec.power.levels: duplicate entries"),
    (
        job(train=None, infer={"model": {"job": "a"}, "prompts": ["a"]}, power=levels("a")),
        INFERENCE.levels_capped,
    ),
    (job(train=None, template={"spec": {}}, power=levels("a", capWatts=90)), greenjob.LEVEL_CAP_ABOVE),
    (job(storage={}), greenjob.ONE_STORAGE),
    (job(storage={"claimName": "c", "uri": "s3://bucket"}), greenjob.ONE_STORAGE),
    (job(storage={"uri": "s3://key:secret@bucket"}), greenjob.URI_BARE),
    (job(storage={"uri": "ftp://bucket"}), greenjob.URI_SHAPE),
    (job(storage={"uri": "s3://bucket/../other"}), greenjob.URI_SHAPE),
    (job(storage={"claimName": "c", "credentialsSecret": "s"}), greenjob.CREDENTIALS_USED),
    (
        job(train=None, infer={"model": {"job": "a"}, "prompts": ["a"]}, storage={"uri": "s3://bucket"}),
        INFERENCE.uri_refused,
    ),
    (job(storage={"uri": "s3://bucket", "credentialsSecret": "Store Keys"}), "spec.storage.credentialsSecret"),
    (job(train={"steps": 10, "data": {"corpus": "python-stdlib", "path": "text"}}), workload.ONE_TEXT),
    (job(train=None, infer={"model": {}, "prompts": ["a"]}), workload.ONE_MODEL),
    (job(train=None, infer={"model": {"job": "a"}}), workload.ONE_INPUT),
    (cron(job={"deadline": "2030-01-01T00:00:00Z"}), greencronjob.NO_FINISH),
    (cron(window="3h"), greencronjob.WINDOW_FITS),
    (region(pue="0.9"), "spec.pue: must lie between"),
    ({**region(), "metadata": {"name": "r" * 64}}, "metadata.name: a region's name is a label"),
    ({**region(), "metadata": {"name": "eu.north"}}, "metadata.name: a region's name is a label"),
    # What the schema refuses: the path of the field is in the sentence.
    (job(duration="4 hours"), "spec.duration"),
    (job(duration=4), "spec.duration"),
    (job(deadline="tomorrow", completeWithin=None), "spec.deadline"),
    (job(power={"watts": 1.5}), "spec.power.watts"),
    (job(power={"watts": 0}), "spec.power.watts"),
    (job(backoffLimit=-1), "spec.backoffLimit"),
    (job(placement={"regions": []}), "spec.placement.regions"),
    (job(placement={"regions": ["North!"]}), "spec.placement.regions[0]"),
    (job(interruption={"policy": "Sometimes"}), "spec.interruption.policy"),
    (job(train={}), "spec.train.steps"),
    (job(duraton="4h"), ".spec.duraton: field not declared in schema"),
    (region(gridZone="../../etc"), "spec.gridZone"),
    (region(capacity=[{"resource": "cpu", "count": n} for n in (1, 2)]), ".spec.capacity: duplicate entries"),
    (cron(schedule=""), "spec.schedule"),
    (cron(schedule="@reboot"), schedule.SHAPE),
    (cron(schedule="0 9 * * MON#2"), schedule.SHAPE),
    (cron(schedule="0 0 0 * * *"), schedule.SHAPE),
    (cron(schedule="CRON_TZ=UTC 0 0 * * *"), schedule.NO_ZONE_INSIDE),
    (cron(schedule="0 0 30,31 FEB *"), schedule.NEVER_FIRES),
    (cron(schedule="0 0 31 4,6 ?"), schedule.NEVER_FIRES),
    (cron(timeZone="Europe"), schedule.ZONE_KNOWN),
    (cron(timeZone="../UTC"), schedule.ZONE_KNOWN),
]


@pytest.mark.parametrize(("body", "sentence"), REFUSED, ids=[s[:60] for _, s in REFUSED])
def test_a_mistake_is_refused_with_its_sentence(kube: Kube, body: Body, sentence: str) -> None:
    assert sentence in kube.refusal(body)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_is_taken_as_it_stands(kube: Kube, path: Path) -> None:
    objects = [o for o in yaml.safe_load_all(path.read_text()) if o]
    assert kube.apply(*objects, dry_run=True) == ""


def test_defaults_are_the_models(kube: Kube) -> None:
    """A manifest means the same on a laptop, where the models fill in the defaults."""
    body = job()
    kube.apply(body)
    try:
        stored = kube.must_get("greenjob", "one", "default")
        assert greenjob.GreenJob.model_validate(stored).spec == greenjob.GreenJob.model_validate(body).spec
        assert stored["spec"]["backoffLimit"] == 2 and stored["spec"]["train"]["precision"] == "float32"
    finally:
        kube.delete("greenjob", "one", "default")
