"""Annotations of a managed workload: the words of a GreenJob, with its sentences."""

import pytest
from managed.bodies import WORDS, job

from windward_api.managed import JOB, JOB_SET, TRAIN_JOB, layered, read_managed, words_of

POD = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m", "nvidia.com/gpu": "2"}}}]}}


def read(**words):
    return read_managed(job({f"windward.dev/{k.replace('_', '-')}": v for k, v in words.items()}), JOB, {})


def test_the_words_are_the_spec_of_a_greenjob():
    spec = read(
        duration_p90="3h", interruption="Checkpoint", interruption_overhead="2m", regions="north, south",
        home="north", priority="-3", min_saving_percent="7", fallback="RunAtLatest", delay_grams_per_hour="5",
    ).spec  # fmt: skip
    body = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    assert body["placement"] == {"regions": ["north", "south"], "home": "north"}
    assert body["interruption"] == {"policy": "Checkpoint", "overhead": "2m"}
    assert (body["priority"], body["power"]["watts"], body["durationP90"]) == (-3, 100, "3h")
    assert body["policy"] == {"minSavingPercent": 7, "fallback": "RunAtLatest", "delayGramsPerHour": 5}


@pytest.mark.parametrize(
    ("word", "text", "sentence"),
    [
        ("complete-wihtin", "8h", "complete-wihtin: unknown: did you mean windward.dev/complete-within?"),
        ("complete-within", "1h", "windward.dev/duration: must not exceed annotation windward.dev/complete-within"),
        ("duration", "soon", "annotation windward.dev/duration: 'soon' is not a duration"),
        ("watts", "many", "annotation windward.dev/watts: Input should be a valid integer"),
        ("regions", "a, b", "annotation windward.dev/home: required when regions names several"),
        ("interruption", "Maybe", "annotation windward.dev/interruption: Input should be 'Never' or 'Checkpoint'"),
        ("deadline", "2026-06-01T00:00:00Z", "set exactly one of complete-within, deadline"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_refused_in_a_sentence_that_names_its_annotation(word, text, sentence):
    with pytest.raises(ValueError, match=r"windward\.dev|exactly one") as refused:
        read_managed(job({f"windward.dev/{word}": text}), JOB, {})
    assert sentence in str(refused.value)


def test_what_is_missing_is_named_with_where_it_may_stand():
    body = job()
    for word in ("duration", "regions"):
        del body["metadata"]["annotations"][f"windward.dev/{word}"]
    with pytest.raises(ValueError, match=r"dev/duration: is required.*dev/regions: is required"):
        read_managed(body, JOB, {})
    assert read_managed(body, JOB, {"duration": "1h", "regions": "south"}).spec.placement.regions == ("south",)


def test_a_profile_stands_for_a_duration_and_so_does_the_cron_job_that_owns_it():
    body = job({"windward.dev/profile": "etl"})
    del body["metadata"]["annotations"]["windward.dev/duration"]
    read = read_managed(body, JOB, {})
    assert (read.spec.duration, read.profile) == (None, "etl")
    del body["metadata"]["annotations"]["windward.dev/profile"]
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "c", "controller": True}
    body["metadata"]["ownerReferences"] = [owner]
    assert read_managed(body, JOB, {}).profile == "nightly"
    assert read_managed(body, JOB, {"profile": "etl"}).profile == "etl", "what its namespace says comes first"
    body["metadata"]["ownerReferences"] = [owner | {"controller": False}]
    with pytest.raises(ValueError, match=r"past runs that say it in windward\.dev/profile"):
        read_managed(body, JOB, {})


def test_at_latest_needs_a_duration_in_the_words_of_annotations():
    body = job({"windward.dev/profile": "etl", "windward.dev/fallback": "RunAtLatest"})
    del body["metadata"]["annotations"]["windward.dev/duration"]
    with pytest.raises(ValueError, match=r"annotation windward\.dev/fallback: RunAtLatest needs annotation windward"):
        read_managed(body, JOB, {})


def test_own_words_win_and_one_finish_by_takes_the_others_place():
    layers = ({"complete-within": "1d", "watts": "5"}, {"deadline": "2026-06-01T00:00:00Z"}, {"watts": "7"})
    assert layered(layers) == {"deadline": "2026-06-01T00:00:00Z", "watts": "7"}


def test_annotations_that_windward_writes_are_no_words():
    assert words_of({"windward.dev/status": "{}", "windward.dev/held-at": "x", "example.com/duration": "1h"}) == {}


@pytest.mark.parametrize(
    ("kind", "spec", "demand"),
    [
        (JOB, {"template": POD}, {"pods": 1, "cpu": 0.5, "nvidia.com/gpu": 2}),
        (JOB, {"template": POD, "parallelism": 8, "completions": 3}, {"pods": 3, "cpu": 1.5, "nvidia.com/gpu": 6}),
        (JOB, {"template": POD, "parallelism": 0}, {"pods": 0, "cpu": 0, "nvidia.com/gpu": 0}),
        (
            JOB_SET,
            {"replicatedJobs": [
                {"name": "driver", "template": {"spec": {"template": POD}}},
                {"name": "workers", "replicas": 2, "template": {"spec": {"template": POD, "parallelism": 4}}},
            ]},
            {"pods": 9, "cpu": 4.5, "nvidia.com/gpu": 18},
        ),
        (
            TRAIN_JOB,
            {"runtimeRef": {"name": "torch"}, "trainer": {"numNodes": 3, "resourcesPerNode": {"limits": {"cpu": "2"}}}},
            {"pods": 3, "cpu": 6},
        ),
        (TRAIN_JOB, {"runtimeRef": {"name": "torch"}}, {"pods": 1}),
    ],
)  # fmt: skip
def test_what_it_holds_of_a_region_is_what_all_its_pods_request(kind, spec, demand):
    body = job()
    body["spec"] = {"suspend": True, **spec}
    read = read_managed(body, kind, {})
    assert read.spec.work_kind.demand(read.spec.work) == demand


def test_a_spec_that_cannot_be_read_names_the_field():
    body = job(template={"spec": {"containers": {"c": {}}}})
    with pytest.raises(ValueError, match=r"spec\.template\.spec\.containers: must be a list"):
        read_managed(body, JOB, {})


def test_its_key_tells_it_from_a_greenjob_of_the_same_name():
    assert read(**{k.replace("-", "_"): v for k, v in WORDS.items()}).key == "team/job/mnist"
