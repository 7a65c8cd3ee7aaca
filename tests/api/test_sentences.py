"""What is refused, in which words: the models' sentences are exact, name the field and say what to do."""

import copy

import pytest
from pydantic import ValidationError

from windward_api import greencronjob, greenjob, greenregion, kinds, rules, schedule, workload
from windward_api.greencronjob import GreenCronJob
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.sentences import sentences

GONE = object()
JOB = {
    "metadata": {"name": "a"},
    "spec": {
        "completeWithin": "12h", "duration": "2h", "placement": {"regions": ["north", "south"], "home": "south"},
        "template": {"spec": {"containers": [{"name": "main", "image": "x"}]}},
    },
}  # fmt: skip
REGION = {"metadata": {"name": "north"}, "spec": {"gridZone": "SE-SE3", "capacity": [{"resource": "cpu", "count": 1}]}}
CRON = {
    "metadata": {"name": "c"},
    "spec": {
        "schedule": "0 20 * * *", "window": "10h",
        "jobTemplate": {"spec": {k: v for k, v in JOB["spec"].items() if k != "completeWithin"}},
    },
}  # fmt: skip


def changed(body, **paths):
    """A copy with values set at `a__b__c`; GONE removes."""
    out = copy.deepcopy(body)
    for path, value in paths.items():
        *parents, last = [int(p) if p.isdigit() else p for p in path.split("__")]
        node = out
        for part in parents:
            node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
        if value is GONE:
            node.pop(last)
        else:
            node[last] = value
    return out


def refusals(model, body):
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return sentences(caught.value)


def test_the_examples_are_good():
    GreenJob.model_validate(JOB), GreenRegion.model_validate(REGION), GreenCronJob.model_validate(CRON)


def test_a_profile_stands_for_a_duration_and_a_cron_jobs_name_for_a_profile():
    job = GreenJob.model_validate(changed(JOB, spec__duration=GONE, spec__profile="etl.daily"))
    assert (job.spec.duration, job.profile) == (None, "etl.daily")
    cron = GreenCronJob.model_validate(changed(CRON, spec__jobTemplate__spec__duration=GONE))
    assert cron.spec.job_template.spec.profile is None
    assert refusals(GreenJob, changed(JOB, spec__profile="Etl daily"))[0].startswith("spec.profile: ")


def level(name="a", **more):
    return {"name": name, "watts": 100, "duration": "3h"} | more


def power(*levels):
    return {"watts": 200, "levels": levels}


TRAINING, INFERENCE = kinds.KIND_OF_FIELD["train"], kinds.KIND_OF_FIELD["infer"]
TRAIN = {"steps": 1}
INFER = {"model": {"path": "m.gguf"}, "prompts": ["hi"]}
RULES = {
    "no finish": ({"spec__completeWithin": GONE}, greenjob.ONE_FINISH),
    "two finishes": ({"spec__deadline": "2026-11-21T18:00:00Z"}, greenjob.ONE_FINISH),
    "no work": ({"spec__template": GONE}, kinds.ONE_WORK),
    "two works": ({"spec__train": TRAIN}, kinds.ONE_WORK),
    "no home": ({"spec__placement__home": GONE}, greenjob.HOME_NEEDED),
    "foreign home": ({"spec__placement__home": "east"}, greenjob.HOME_KNOWN),
    "too long": ({"spec__duration": "13h"}, greenjob.LONG_ENOUGH),
    "short p90": ({"spec__durationP90": "1h"}, greenjob.P90_LONGER),
    "neither duration nor profile": ({"spec__duration": GONE}, greenjob.DURATION_OR_PROFILE),
    "at latest without a duration": (
        {"spec__duration": GONE, "spec__profile": "etl", "spec__policy": {"fallback": "RunAtLatest"}},
        greenjob.LATEST_NEEDS_DURATION,
    ),
    "p90 alone": (
        {"spec__duration": GONE, "spec__profile": "etl", "spec__durationP90": "3h"}, greenjob.P90_NEEDS_DURATION
    ),
    "levels without a duration": (
        {"spec__duration": GONE, "spec__profile": "etl", "spec__power": power(level())}, greenjob.LEVELS_NEED_DURATION
    ),
    "idle overhead": ({"spec__interruption": {"overhead": "1m"}}, greenjob.OVERHEAD_USED),
    "cap on training": (
        {"spec__template": GONE, "spec__train": TRAIN, "spec__power": {"watts": 200, "capWatts": 250}},
        TRAINING.cap_refused,
    ),
    "cap below the draw": ({"spec__power": {"watts": 200, "capWatts": 150}}, greenjob.CAP_ABOVE),
    "levels of one name": ({"spec__power": power(level(), level(watts=90))}, greenjob.LEVELS_APART),
    "levels of training": (
        {"spec__template": GONE, "spec__train": TRAIN, "spec__power": power(level())}, TRAINING.levels_refused
    ),
    "levels of infer without caps": (
        {"spec__template": GONE, "spec__infer": INFER, "spec__power": power(level(capWatts=150), level("b"))},
        INFERENCE.levels_capped,
    ),
    "a level's cap below its draw": ({"spec__power": power(level(capWatts=80))}, greenjob.LEVEL_CAP_ABOVE),
    "no storage": ({"spec__storage": {}}, greenjob.ONE_STORAGE),
    "two storages": ({"spec__storage": {"claimName": "c", "uri": "s3://bucket"}}, greenjob.ONE_STORAGE),
    "credentials in the uri": ({"spec__storage": {"uri": "s3://key:hidden@bucket/path"}}, greenjob.URI_BARE),
    "another scheme": ({"spec__storage": {"uri": "ftp://bucket/path"}}, greenjob.URI_SHAPE),
    "a uri that climbs": ({"spec__storage": {"uri": "s3://bucket/../other"}}, greenjob.URI_SHAPE),
    "a uri with a query": ({"spec__storage": {"uri": "s3://bucket/path?x=1"}}, greenjob.URI_SHAPE),
    "a uri with a line break": ({"spec__storage": {"uri": "s3://bucket/path\n"}}, greenjob.URI_SHAPE),
    "a file uri with a host": ({"spec__storage": {"uri": "file://host/path"}}, greenjob.URI_SHAPE),
    "a secret for a claim": (
        {"spec__storage": {"claimName": "c", "credentialsSecret": "s"}}, greenjob.CREDENTIALS_USED
    ),
    "a secret for a folder": (
        {"spec__storage": {"uri": "file:///data", "credentialsSecret": "s"}}, greenjob.CREDENTIALS_USED
    ),
    "infer in an object store": (
        {"spec__template": GONE, "spec__infer": INFER, "spec__storage": {"uri": "s3://bucket"}},
        INFERENCE.uri_refused,
    ),
    "no text": ({"spec__template": GONE, "spec__train": TRAIN | {"data": {}}}, workload.ONE_TEXT),
    "two texts": (
        {"spec__template": GONE, "spec__train": TRAIN | {"data": {"corpus": "python-stdlib", "path": "x"}}},
        workload.ONE_TEXT,
    ),
    "no model": ({"spec__template": GONE, "spec__infer": INFER | {"model": {}}}, workload.ONE_MODEL),
    "two models": (
        {"spec__template": GONE, "spec__infer": INFER | {"model": {"path": "m", "job": "j"}}}, workload.ONE_MODEL
    ),
    "no input": ({"spec__template": GONE, "spec__infer": {"model": {"path": "m"}}}, workload.ONE_INPUT),
    "two inputs": ({"spec__template": GONE, "spec__infer": INFER | {"input": "x"}}, workload.ONE_INPUT),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), RULES.values(), ids=RULES)
def test_each_rule_has_its_sentence(change, sentence):
    assert refusals(GreenJob, changed(JOB, **change)) == [sentence]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"spec__jobTemplate__spec__completeWithin": "5h"}, greencronjob.NO_FINISH),
        ({"spec__jobTemplate__spec__deadline": "2026-11-21T18:00:00Z"}, greencronjob.NO_FINISH),
        ({"spec__window": "1h"}, greencronjob.WINDOW_FITS),
        ({"spec__jobTemplate__spec__template": GONE}, kinds.ONE_WORK),
        ({"spec__jobTemplate__spec__train": TRAIN}, kinds.ONE_WORK),
        ({"spec__jobTemplate__spec__placement__home": GONE}, greenjob.HOME_NEEDED),
        ({"spec__jobTemplate__spec__placement__home": "east"}, greenjob.HOME_KNOWN),
        ({"spec__jobTemplate__spec__interruption": {"overhead": "1m"}}, greenjob.OVERHEAD_USED),
        (
            {"spec__jobTemplate__spec__duration": GONE, "spec__jobTemplate__spec__policy": {"fallback": "RunAtLatest"}},
            greenjob.LATEST_NEEDS_DURATION,
        ),
    ],
)
def test_the_rules_of_a_cron_jobs_template(change, sentence):
    assert refusals(GreenCronJob, changed(CRON, **change)) == [sentence]


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket", "s3://my.bucket-1/a/b_c/d=1", "gs://bucket/path", "azblob://container/path", "file:///data/green"],
)
def test_object_stores_are_taken(uri):
    storage = {"uri": uri, **({} if uri.startswith("file") else {"credentialsSecret": "store-keys"})}
    job = GreenJob.model_validate(changed(JOB, spec__storage=storage))
    assert (job.spec.storage.uri, job.spec.storage.claim_name) == (uri, None)


def test_a_refusal_does_not_repeat_the_credentials():
    (said,) = refusals(GreenJob, changed(JOB, spec__storage={"uri": "s3://key:hidden@bucket/path"}))
    assert "hidden" not in said


SCHEDULES = [
    ("@reboot", "UTC", schedule.SHAPE),
    ("0 0 0 * * *", "UTC", schedule.SHAPE),
    ("TZ=UTC 0 0 * * *", "UTC", schedule.NO_ZONE_INSIDE),
    ("0 0 31 2 *", "UTC", schedule.NEVER_FIRES),
    ("0 0 31 APR,6 ?", "UTC", schedule.NEVER_FIRES),
    ("0 0 * * *", "Europe", schedule.ZONE_KNOWN),
    ("0 0 * * *", "../UTC", schedule.ZONE_KNOWN),
]


@pytest.mark.parametrize(("text", "zone", "sentence"), SCHEDULES)
def test_the_rules_of_a_schedule(text, zone, sentence):
    (said,) = refusals(GreenCronJob, changed(CRON, spec__schedule=text, spec__timeZone=zone))
    assert said.startswith(sentence)  # and then what stood there


@pytest.mark.parametrize("pue", ["0.99", "3.01", "0", "10"])
def test_a_pue_that_no_site_has_is_refused_as_the_api_server_does(pue):
    assert refusals(GreenRegion, changed(REGION, spec__pue=pue)) == [greenregion.PUE_PLAUSIBLE]


@pytest.mark.parametrize("name", ["r" * 64, "eu.north", "North", "north-"])
def test_the_name_of_a_region_is_a_label_of_its_runs(name):
    assert refusals(GreenRegion, changed(REGION, metadata__name=name)) == [greenregion.NAME_SHORT]


@pytest.mark.parametrize("hours", [[(8, 8)], [(16, 8)], [(6, 12), (11, 14)], [(0, 24), (3, 4)]])
def test_hours_on_site_that_overlap_or_run_backwards_are_refused(hours):
    own = {"intensityGramsPerKwh": 46, "hours": [{"fromHour": a, "toHour": b, "sharePercent": 50} for a, b in hours]}
    assert refusals(GreenRegion, changed(REGION, spec__onSite=own)) == [greenregion.HOURS_APART]


def test_hours_on_site_may_touch():
    spans = [{"fromHour": 12, "toHour": 16, "sharePercent": 80}, {"fromHour": 8, "toHour": 12, "sharePercent": 40}]
    GreenRegion.model_validate(changed(REGION, spec__onSite={"intensityGramsPerKwh": 0, "hours": spans}))


def test_a_pue_at_either_end_is_good():
    for pue in ("1", "1.00", "3", "1.25"):
        GreenRegion.model_validate(changed(REGION, spec__pue=pue))


@pytest.mark.parametrize(
    ("model", "body", "sentence"),
    [
        (GreenJob, changed(JOB, spec__completWithin="1h"), "spec.completWithin: unknown field: did you mean completeWithin?"),  # noqa: E501
        (GreenJob, changed(JOB, spec__placement__region="x"), "spec.placement.region: unknown field: did you mean regions?"),  # noqa: E501
        (GreenJob, changed(JOB, spec__power={"watts": 1, "wats": 1}), "spec.power.wats: unknown field: did you mean watts?"),  # noqa: E501
        (GreenJob, changed(JOB, spec__template=GONE, spec__train=TRAIN | {"model": {"layer": 2}}),
         "spec.train.model.layer: unknown field: did you mean layers?"),
        (GreenJob, changed(JOB, spec__zzz=1), None),
        (GreenCronJob, changed(CRON, spec__jobTemplate__spec__durations="1h"),
         "spec.jobTemplate.spec.durations: unknown field: did you mean duration?"),
        (GreenRegion, changed(REGION, spec__capacity__0__cuont=3),
         "spec.capacity.0.cuont: unknown field: did you mean count?"),
        (GreenRegion, changed(REGION, spec__gridzone="DE"), "spec.gridzone: unknown field: did you mean gridZone?"),
    ],
)  # fmt: skip
def test_a_misspelt_key_names_the_likely_one(model, body, sentence):
    said = refusals(model, body)
    if sentence is None:
        assert said[0].startswith("spec.zzz: unknown field: known here are backoffLimit, completeWithin, ")
    else:
        assert said == [sentence]


def test_what_is_missing_is_named():
    assert refusals(GreenJob, changed(JOB, spec__placement=GONE)) == ["spec.placement: is required"]
    assert refusals(GreenRegion, {"metadata": {"name": "x"}, "spec": {}}) == ["spec.gridZone: is required"]


@pytest.mark.parametrize("value", ["", 5, None, {}, "x" * 300])
def test_nonsense_is_refused_and_not_crashed_on(value):
    for path in ("spec__duration", "spec__placement", "spec__placement__regions", "metadata__name"):
        if not (path == "metadata__name" and value == "x"):
            assert refusals(GreenJob, changed(JOB, **{path: value}))


def test_every_rule_of_the_api_server_has_its_sentence_here():
    tested = {s for _, s in RULES.values()} | {
        greencronjob.NO_FINISH, greencronjob.WINDOW_FITS, *(s for _, _, s in SCHEDULES),
        *(r.message for r in rules.GREENREGION),
    }  # fmt: skip
    assert {r.message for r in [*rules.GREENJOB, *rules.GREENCRONJOB, *rules.GREENREGION]} <= tested
    for sentence in tested:
        field, _, advice = sentence.partition(": ")
        assert field.startswith(("spec", "metadata.name")) and ": " in advice, f"{sentence!r} does not say what to do"
