"""What a GreenJob's words become for the planner."""

from datetime import UTC, datetime, timedelta

from windward.domain.observed import Observed
from windward.lifecycle.work import work_of
from windward_api.greenjob import GreenJob

CONTAINER = {"spec": {"containers": [{"name": "main", "image": "x"}]}}

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def test_words_of_the_planner_reach_it():
    spec = {
        "completeWithin": "24h", "duration": "3h", "durationP90": "4h", "template": CONTAINER,
            "priority": 7,
        "placement": {"regions": ["de"]}, "policy": {"delayGramsPerHour": 12},
    }  # fmt: skip
    meta = {"name": "a", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-03-02T00:00:00Z"}
    work = work_of(Observed(GreenJob.model_validate({"metadata": meta, "spec": spec})), NOW)
    assert (work.delay_g_per_hour, work.priority, work.duration_p90) == (12.0, 7, timedelta(hours=4))
    assert work.latest_start() == NOW + timedelta(hours=20)


def test_without_them_nothing_is_weighed_beside_grams():
    spec = {
        "completeWithin": "24h",
        "duration": "3h",
        "template": CONTAINER,
        "placement": {"regions": ["de"]},
    }
    meta = {"name": "a", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-03-02T00:00:00Z"}
    work = work_of(Observed(GreenJob.model_validate({"metadata": meta, "spec": spec})), NOW)
    assert (work.delay_g_per_hour, work.priority, work.duration_p90) == (0.0, 0, None)
