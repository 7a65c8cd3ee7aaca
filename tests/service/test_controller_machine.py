"""The controller against a world that does its worst: whatever the order, S1, S4, S8 and the end of a job hold."""

import logging
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Step
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from service.world import World, job_body

from windward.domain.observed import Observed
from windward.domain.run import Phase, run_name
from windward.lifecycle.work import work_of
from windward.planning import pauses

SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True, scope="module")
def coarse_grid():
    """Half-hour slots: the exact programme is tested in tests/planning, here it only has to be quick. No log."""
    logging.disable(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pauses, "grid_step", lambda span_s: 1800 if span_s < 86400 else 3600)
        yield
    logging.disable(logging.NOTSET)


class Conducting(RuleBasedStateMachine):
    keys = Bundle("keys")

    @initialize()
    def begin(self):
        self.world = World()
        self.facts = {}  # uid -> (key, finish_by, latest start, feasible)
        self.troubled = set()
        self.ended = {}  # uid -> number of runs when it ended

    def teardown(self):
        if hasattr(self, "world"):
            self.world.close()

    def uid(self, key):
        job = self.world.cluster.jobs.get(key)
        return job.job.metadata.uid if job else None

    @rule(
        target=keys,
        hours=st.sampled_from([2, 1, 5, 3]),
        within=st.sampled_from([12, 24, 3, 6, 30]),
        checkpoint=st.booleans(),
        fallback=st.sampled_from(["RunNow", "RunAtLatest"]),
        backoff=st.integers(0, 2),
        threshold=st.sampled_from([0, 0, 10]),
        suspend=st.sampled_from([False, False, False, True]),
    )
    def submit(self, hours, within, checkpoint, fallback, backoff, threshold, suspend):
        if len(self.world.cluster.jobs) >= 3:
            return multiple()
        body = job_body(
            f"j{len(self.facts)}",
            duration=f"{hours}h",
            completeWithin=f"{max(within, hours)}h",
            interruption={"policy": "Checkpoint", "overhead": "10m"} if checkpoint else None,
            policy={"fallback": fallback, "minSavingPercent": threshold},
            backoffLimit=backoff,
            suspend=suspend,
        )
        uid = self.world.cluster.apply(body)
        key = f"default/{body['metadata']['name']}"
        now = self.world.clock.now()
        work = work_of(self.world.cluster.jobs[key].observed(), now)
        self.facts[uid] = (key, work.finish_by, work.latest_start(), work.latest_start() >= now)
        if suspend:
            self.troubled.add(uid)
        self.world.tick()
        return key

    @rule(minutes=st.sampled_from([300, 180, 60, 720, 30, 7, 1]))
    def time_passes(self, minutes):
        self.world.advance(timedelta(minutes=minutes))

    @rule(hours=st.sampled_from([2, 4, 8]))
    def hours_pass(self, hours):
        self.world.advance(timedelta(hours=hours))

    @rule()
    def until_something_is_due(self):
        wake_at = self.world.tick().wake_at
        if wake_at is not None:
            self.world.advance(wake_at - self.world.clock.now())

    @rule(key=keys, do=st.sampled_from(["hold", "release", "run-now"]))
    def user_says(self, key, do):
        if not self.uid(key):
            return
        if do == "run-now":
            self.world.cluster.annotate(key, **{"windward.dev/run-now": "true"})
        else:
            self.world.cluster.edit(key, suspend=do == "hold")
            self.troubled.add(self.uid(key))
        self.world.tick()

    @rule(key=consumes(keys))
    def delete(self, key):
        self.world.cluster.delete_job(*key.split("/"))
        self.world.tick()

    @rule(key=keys, what=st.sampled_from(["fail", "lose"]))
    def run_is_harmed(self, key, what):
        uid = self.uid(key)
        if uid and any(r.phase.live for r in self.world.cluster.runs(uid)):
            getattr(self.world.cluster, what)(uid)
            self.troubled.add(uid)
            self.world.tick()

    @rule(key=keys)
    def children_are_collected_while_the_operator_is_down(self, key):
        if self.uid(key):
            self.world.cluster.collect(self.uid(key))
            self.world.restart()
            self.world.tick()

    @rule(what=st.sampled_from(["out", "back", "restart", "crash", "stranger"]))
    def trouble(self, what):
        """A forecast outage and its end; a restart; a crash between claim and create; a write just before a claim."""
        if what in ("out", "back"):
            self.world.provider.out = what == "out"
        elif what == "restart":
            self.world.restart()
        elif what == "crash":
            self.world.cluster.crash_after_claim = True
        else:
            self.world.cluster.conflict_next = True

    # -- what holds, always ------------------------------------------------------------------------------------------

    @invariant()
    def at_most_one_live_run(self):
        if hasattr(self, "world"):
            for key, job in self.world.cluster.jobs.items():
                assert sum(r.phase.live for r in job.runs) <= 1, key

    @invariant()
    def names_follow_from_uid_and_attempt_and_attempts_from_one(self):
        for uid, (key, *_) in getattr(self, "facts", {}).items():
            created = self.world.cluster.told[uid].created
            assert [a for a, _, _ in created] == list(range(1, len(created) + 1))
            assert all(name == run_name(key.split("/")[1], uid, attempt) for attempt, name, _ in created)

    @invariant()
    def untroubled_work_starts_and_ends_in_time(self):
        for uid, (key, finish_by, latest, feasible) in getattr(self, "facts", {}).items():
            if uid in self.troubled or not feasible or self.uid(key) != uid:
                continue
            created = self.world.cluster.told[uid].created
            if created:
                assert created[0][2] <= latest + SECOND, f"{key} started after its latest start"
            else:
                assert self.world.clock.now() <= latest + SECOND, f"{key} is still not started"
            ended = self.world.cluster.finished_at(uid) or self.world.clock.now()
            assert ended <= finish_by, f"{key} is late"

    @invariant()
    def the_end_is_the_end(self):
        for uid, (key, *_) in getattr(self, "facts", {}).items():
            job = self.world.cluster.jobs.get(key)
            if job is None:
                continue
            observed = Observed(job.job, ())
            created = len(self.world.cluster.told[uid].created)
            if observed.ended:
                assert self.ended.setdefault(uid, created) == created, f"{key} was started again after its end"
            else:
                assert uid not in self.ended, f"{key} is not ended any more"

    @invariant()
    def the_book_counts_each_joule_once(self):
        for uid in getattr(self, "facts", {}):
            rows = self.world.ledger.energy(uid)
            keys = [(r.attempt, r.pod_uid, r.component, r.start) for r in rows]
            assert len(keys) == len(set(keys))
            spent = {}
            for r in rows:
                spent[r.attempt] = spent.get(r.attempt, 0.0) + r.joules
            for run in self.world.cluster.runs(uid):
                # Every run draws 200 W, measured or declared: twice as much is a run booked twice.
                most = 200.0 * run.ran_for(self.world.clock.now()).total_seconds()
                assert spent.get(run.attempt, 0.0) <= most + 1.0, f"{run.name} is in the ledger more than once"

    @invariant()
    def the_status_speaks(self):
        for key in (getattr(self, "world", None) and self.world.cluster.jobs) or ():
            status = self.world.cluster.status(key)
            summary = status.get("summary")
            if summary is not None:
                assert summary["state"] and summary["reason"] and summary["finishBy"], key
            for told in status.get("conditions", ()):
                assert told["reason"], told

    @invariant()
    def events_are_short_and_told_once(self):
        for told in (getattr(self, "world", None) and self.world.cluster.told.values()) or ():
            assert all(len(e.message) <= 180 for _, e in told.events)
            ends = [e.reason for _, e in told.events if e.reason in ("Complete", "Failed")]
            assert len(ends) <= 1
            starts = [e.message for _, e in told.events if e.reason == "Started"]
            assert len(starts) == len(set(starts))


TestConducting = Conducting.TestCase
TestConducting.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Step.generate,),  # shrinking costs minutes; drop this line to look into a failure
    suppress_health_check=list(HealthCheck),
)


def test_phases_are_all_reached_by_the_cluster():
    """The machine above means little if its world never pauses, fails or loses anything."""
    world, seen = World(), set()
    uid = world.cluster.apply(job_body(interruption={"policy": "Checkpoint"}, duration="16h", completeWithin="70h"))
    for step in range(80):
        world.advance(timedelta(hours=1))
        seen |= {r.phase for r in world.cluster.runs(uid)}
        if Phase.PAUSED in seen and Phase.FAILED not in seen:
            world.cluster.fail(uid)
        elif Phase.FAILED in seen and Phase.LOST not in seen:
            world.cluster.lose(uid)
    world.close()
    assert {Phase.PAUSED, Phase.FAILED, Phase.LOST, Phase.SUCCEEDED} <= seen
    assert world.status()["summary"]["state"] == "Complete"
