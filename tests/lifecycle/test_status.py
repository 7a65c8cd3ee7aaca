"""What a GreenJob says of itself: always a reason, only words of the closed lists, times that stay, events once."""

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.cases import BROKEN, DONE, HOUR, T0, observed, planned, report, run
from lifecycle.test_accounting import BOTH, REGIONS, row
from lifecycle.test_decide import TABLE

from windward.domain.forecast import Forecast, Freshness
from windward.domain.observed import CreateRun, Finish, Observed
from windward.domain.plan import Reason
from windward.domain.run import Phase, Trouble, TroubleReason
from windward.lifecycle.accounting import account
from windward.lifecycle.decide import decide
from windward.lifecycle.events import LIMIT, events_of
from windward.lifecycle.status import Context, refused, status_of
from windward_api.crd import definition
from windward_api.greenjob import GreenJob
from windward_api.greenjob_status import GreenJobStatus

CLOSED = {
    "Accepted": {"Valid", "InvalidSpec"},
    "Planned": {str(r) for r in Reason},
    "ForecastFresh": {str(f) for f in Freshness},
    "Admitted": {"NoQueue", "WaitingForWindow", "Held"},
    "Running": {
        "PodsReady", "Starting", "PausedCarbonPeak", "PausedByUser", "Checkpointing", "NotStarted", *TroubleReason,
        "ChildRefused", "Succeeded", "BackoffLimitExceeded",
    },
    "OnTrack": {"SlackAvailable", "DeadlineAtRisk", "DeadlineMissed"},
    "Accounted": {"Settled", "Provisional", "MeterMissing"},
    "Complete": {"Succeeded"},
    "Failed": {"BackoffLimitExceeded"},
    "Stalled": {"InvalidSpec", "InternalError"},
}  # fmt: skip
NO_IMAGE = Trouble(TroubleReason.IMAGE_PULL_FAILED, "ErrImagePull: no such image", "name another", T0)
TRUE_MEANS_GOOD = {"Valid", "PodsReady", "SlackAvailable", "NoQueue", "Settled", "Live", "Cached"}
FORECASTS = {"SE": Forecast("SE", None, Freshness.LIVE), "DE": Forecast("DE", None, Freshness.STALE, detail="old")}


def said(seen, plan, at_h=0.0, context=None):
    now = T0 + at_h * HOUR
    actions = decide(seen, plan, now)
    return status_of(seen, plan, actions, now, context or Context(FORECASTS)), actions


def after(seen, status, *runs):
    """The next observation, with what was written: through JSON, as the API server gives it back."""
    body = seen.job.model_dump(by_alias=True, mode="json", exclude_none=True)
    body["status"] = status.model_dump(by_alias=True, mode="json", exclude_none=True)
    return Observed(GreenJob.model_validate(body), runs or seen.runs)


@pytest.mark.parametrize(("seen", "plan", "at_h", "_"), TABLE.values(), ids=TABLE)
def test_every_state_has_a_reason_and_only_words_of_the_lists(seen, plan, at_h, _):
    status, _actions = said(seen, plan, at_h)
    for c in status.conditions:
        assert c.reason in CLOSED[c.type], c
        assert len(c.message) <= 1024 and c.last_transition_time is not None
        if c.status == "True" and c.type not in ("Complete", "Failed", "Planned"):
            assert c.reason in TRUE_MEANS_GOOD, c
    summary = status.summary
    assert summary.state and summary.reason
    for name, text in summary:
        assert "<invalid>" not in text and "nan" not in text and "None" not in text, name
    assert len({c.type for c in status.conditions}) == len(status.conditions)
    again = after(seen, status).job.status
    assert again == status, "what is written is what is read: else every turn writes"


def test_planned_times_are_strings_for_the_columns():
    """A `date` column prints <invalid> for the future (field/user-experience.md, section 5)."""
    from windward_api.crd import _KINDS

    for kind in _KINDS:
        for column in definition(*kind)["spec"]["versions"][0]["additionalPrinterColumns"]:
            past = column["jsonPath"] in (".metadata.creationTimestamp", ".status.lastScheduleTime")
            assert column["type"] != "date" or past, column


@pytest.mark.parametrize(
    ("seen", "plan", "at_h", "state", "reason", "start"),
    [
        (observed(), planned((3, 5)), 0, "Waiting", "CleanerWindow", "03-02 09:00Z"),
        (observed(), planned((0, 2)), 0, "Starting", "CleanerWindow", "03-02 06:00Z"),
        (observed(run()), planned((0, 2)), 1, "Running", "CleanerWindow", "03-02 06:00Z"),
        (observed(), planned(reason=Reason.AWAITING_FORECAST), 0, "Waiting", "AwaitingForecast", ""),
        (observed(), planned(reason=Reason.NO_ALLOWED_REGION), 0, "Waiting", "NoAllowedRegion", ""),
        (observed(suspend=True), None, 0, "Held", "PausedByUser", ""),
        (observed(run(), suspend=True), None, 1, "Pausing", "PausedByUser", "03-02 06:00Z"),
        (observed(run(1, Phase.PAUSED)), planned((5, 6)), 2, "Paused", "PausedCarbonPeak", "03-02 06:00Z"),
        (observed(run(1, Phase.SUCCEEDED)), planned((0, 2)), 2, "Complete", "Succeeded", "03-02 06:00Z"),
        (observed(run(1, Phase.FAILED), backoffLimit=0), None, 2, "Failed", "BackoffLimitExceeded", "03-02 06:00Z"),
        (observed(run(phase=Phase.STARTING, trouble=NO_IMAGE)), planned((0, 2)), 1,
         "Starting", "ImagePullFailed", "03-02 06:00Z"),
    ],
)  # fmt: skip
def test_the_summary_at_a_glance(seen, plan, at_h, state, reason, start):
    summary = said(seen, plan, at_h)[0].summary
    assert (summary.state, summary.reason, summary.start) == (state, reason, start)
    assert summary.finish_by == "03-02 18:00Z"


@pytest.mark.parametrize(
    ("method", "grams", "saved", "energy"),
    [("measured", "22 g", "96 %", "1 kWh"), ("modelled", "~22 g", "~96 %", "1 kWh")],
)
def test_an_ended_job_shows_what_it_was_and_marks_what_was_not_measured(method, grams, saved, energy):
    seen = observed(run(1, Phase.SUCCEEDED))
    made = account(seen, [row(method=method)], BOTH, REGIONS)
    summary = said(seen, planned((0, 2)), 2, Context(FORECASTS, made))[0].summary
    assert (summary.emissions, summary.saved, summary.energy) == (grams, saved, energy)


def test_expected_figures_are_marked_and_unknown_ones_are_empty():
    assert said(observed(), planned((3, 5)))[0].summary.emissions == "~100 g"
    assert said(observed(), planned((3, 5)))[0].summary.saved == "~60 %"
    blind = replace(planned((0, 2)), emissions_g=None, run_now_g=None)
    assert (said(observed(), blind)[0].summary.emissions, said(observed(), blind)[0].summary.saved) == ("", "")


def test_transition_times_are_kept_while_a_status_stays_and_move_when_it_turns():
    seen = observed()
    first, _ = said(seen, planned((3, 5)))
    second, _ = said(after(seen, first), planned((3.5, 5)), 1)
    assert {c.last_transition_time for c in second.conditions} == {T0}
    third, _ = said(after(seen, second, run(start_h=3.5)), planned((3.5, 5)), 4)
    times = {c.type: c.last_transition_time for c in third.conditions}
    assert times["Running"] == T0 + 4 * HOUR and times["Admitted"] == T0 + 4 * HOUR and times["Accepted"] == T0


def test_an_ended_job_keeps_its_word_but_for_the_accounts():
    seen = observed(run(1, Phase.SUCCEEDED))
    first, _ = said(seen, planned((0, 2)), 2, Context(FORECASTS, account(seen, [row()], {}, {})))
    assert first.finished_at == T0 + 2 * HOUR
    again = after(seen, first)
    later, actions = said(again, None, 50, Context({}, account(seen, [row()], BOTH, REGIONS), "sha256:1"))
    assert actions == [] and later.finished_at == first.finished_at and later.plan == first.plan
    before, now = ({c.type: c for c in s.conditions} for s in (first, later))
    assert (before["Accounted"].reason, now["Accounted"].reason) == ("Provisional", "Settled")
    assert {k: v for k, v in before.items() if k != "Accounted"} == {k: v for k, v in now.items() if k != "Accounted"}


@pytest.mark.parametrize(
    ("plan", "at_h", "reason"),
    [
        (planned((0, 2)), 0, "SlackAvailable"),
        (replace(planned((0, 14)), feasible=False), 0, "DeadlineAtRisk"),
        (replace(planned(reason=Reason.CAPACITY_FULL), feasible=False), 0, "DeadlineAtRisk"),
        (planned(reason=Reason.AWAITING_FORECAST), 0, "SlackAvailable"),
        (planned((13, 14)), 12.1, "DeadlineMissed"),
    ],
)
def test_on_track(plan, at_h, reason):
    track = {c.type: c for c in said(observed(), plan, at_h)[0].conditions}["OnTrack"]
    assert (track.reason, track.status) == (reason, "True" if reason == "SlackAvailable" else "False")


def test_a_waiting_job_names_the_command_that_skips_the_wait():
    admitted = {c.type: c for c in said(observed(), planned((3, 5)))[0].conditions}["Admitted"]
    assert "windward run-now night" in admitted.message


def test_a_refusal_is_told_and_hides_nothing_that_lives():
    context = Context(FORECASTS, refusal="quota exceeded")
    waiting = {c.type: c for c in said(observed(), planned((3, 5)), 0, context)[0].conditions}["Running"]
    assert (waiting.reason, waiting.message) == ("ChildRefused", "quota exceeded")
    living = {c.type: c for c in said(observed(run()), planned((0, 2)), 1, context)[0].conditions}["Running"]
    assert living.reason == "PodsReady"


def test_an_object_that_cannot_be_read_says_so_and_nothing_else_changes():
    old = said(observed(run()), planned((0, 2)), 1)[0]
    new = refused(7, old, "spec.duration: is required", T0 + HOUR)
    assert (new.summary.state, new.summary.reason, new.observed_generation) == ("Refused", "InvalidSpec", 7)
    assert new.runs == old.runs and new.attempt == old.attempt
    assert refused(7, new, "spec.duration: is required", T0 + 2 * HOUR) == new


def told(seen, plan, at_h=0.0, context=None):
    status, actions = said(seen, plan, at_h, context)
    return [e.reason for e in events_of(seen, plan, actions, status)], after(seen, status)


def test_each_transition_is_told_once():
    seen = observed(interruption={"policy": "Checkpoint"})
    heard, seen = told(seen, planned((3, 5)))
    assert heard == ["Planned", "ForecastStale"]
    assert told(seen, planned((3, 5)), 0.5)[0] == []
    assert told(seen, planned((3.01, 5)), 0.5)[0] == []  # less than a minute is no news
    heard, seen = told(seen, planned((4, 6)), 1)
    assert heard == ["Replanned"]
    heard, seen = told(seen, planned((4, 6)), 4)
    assert heard == ["Started"]
    seen = replace(seen, runs=(run(start_h=4),))
    assert told(seen, planned((4, 6)), 4.5)[0] == []
    heard, seen = told(seen, planned((7, 9), go_on_g=120.0), 5)
    assert heard == ["Paused"]
    seen = replace(seen, runs=(run(start_h=4, phase=Phase.STOPPING),))
    assert told(seen, planned((7, 9)), 5.1)[0] == []
    seen = replace(seen, runs=(run(1, Phase.SUCCEEDED, start_h=4),))
    heard, seen = told(seen, planned((7, 9)), 6)
    assert heard == ["Complete"]
    assert told(seen, None, 7)[0] == []


@pytest.mark.parametrize(
    ("seen", "plan", "at_h", "heard"),
    [
        (observed(), replace(planned((0, 14)), reason=Reason.DEADLINE_TOO_SOON, feasible=False), 0,
         ["DeadlineTooSoon", "ForecastStale", "DeadlineAtRisk", "Started"]),
        (observed(), planned((0, 2), reason=Reason.RUN_NOW), 0, ["RunNowChosen", "ForecastStale", "Started"]),
        (observed(), planned((0, 2), reason=Reason.SAVING_BELOW_THRESHOLD), 0,
         ["RunNowChosen", "ForecastStale", "Started"]),
        (observed(run(1, Phase.FAILED), backoffLimit=0), None, 2, ["ForecastStale", "Failed"]),
    ],
)  # fmt: skip
def test_events_of_a_first_look(seen, plan, at_h, heard):
    assert told(seen, plan, at_h)[0] == heard


@pytest.mark.parametrize(("seen", "plan", "at_h", "_"), TABLE.values(), ids=TABLE)
def test_events_are_short(seen, plan, at_h, _):
    wordy = replace(plan, explanation="because " * 99) if plan else None
    status, actions = said(seen, wordy, at_h, Context(FORECASTS, refusal="no " * 200))
    assert all(0 < len(e.message) <= LIMIT == 180 for e in events_of(seen, wordy, actions, status))


def test_the_attempt_in_the_status_is_the_one_that_is_created():
    status, actions = said(observed(run(2, Phase.PAUSED)), planned((0, 2, "south")))
    (made,) = [a for a in actions if isinstance(a, CreateRun)]
    assert (status.attempt, status.attempt_region) == (made.attempt, made.region) == (3, "south")


def test_a_status_is_not_written_anew_every_second():
    """A window that has begun starts anew at every look; the status must not follow it."""
    seen = observed(run())
    first, _ = said(seen, planned((1, 2)), 1)
    second, _ = said(after(seen, first), planned((1 + 20 / 3600, 2 + 20 / 3600)), 1 + 20 / 3600)
    assert second == first


def test_a_finish_is_not_repeated():
    seen = observed(run(1, Phase.SUCCEEDED, report=report(1.0)))
    status, actions = said(seen, planned((0, 2)), 2)
    assert any(isinstance(a, Finish) for a in actions)
    assert decide(after(seen, status), None, T0 + 3 * HOUR) == []
    for end in (DONE, BROKEN):
        assert decide(observed(run(1, Phase.FAILED), status={"conditions": [end]}), planned((0, 2)), T0) == []


def test_no_more_than_twenty_runs_are_shown_and_failures_all_counted():
    runs = [run(n, Phase.FAILED, end_h=0) for n in range(1, 31)]
    status, _ = said(observed(*runs, backoffLimit=50), planned((0, 2)))
    assert [r.attempt for r in status.runs] == list(range(11, 31)) and status.failures == 30


def test_the_longest_duration_that_can_be_declared_is_one_that_a_status_can_hold():
    o = observed(duration="9999d99999h999999m", completeWithin="9999d99999h999999m")
    status = status_of(o, None, [], T0, Context({}))
    written = GreenJobStatus.model_validate(status.model_dump(by_alias=True, mode="json", exclude_none=True))
    assert written.duration.expected == timedelta(days=9999)
