"""Who submits a job gets its name, the job that waits under it, or a refusal that changes nothing."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from local.test_local_cluster import REGION, job_body

from windward.cluster.locks import Locks
from windward.cluster.store import Store
from windward.service.submissions import COMMAND, SOURCE, NameInUse, Submission, Submissions, command_to_resume

T0 = datetime(2026, 3, 2, 6, tzinfo=UTC)


class Laptop:
    """State and locks, and the commands that submit here."""

    def __init__(self, home):
        self.store, self.home, self.resumed = Store(home / "local.db"), home, []
        self.first = Submissions(self.store, Locks(home / "locks"))

    def other(self):
        return Submissions(self.store, Locks(self.home / "locks"))

    def admit(self, *bodies, by=None, **options):
        jobs = [{**b, "metadata": {"namespace": "default", **b["metadata"]}} for b in bodies]
        submission = Submission(tuple(jobs), (REGION,), **options)
        return (by or self.first).admit(submission, lambda: T0, self.resumed.append)

    def end(self, name="night"):
        self.store.update("GreenJob", "default", name, status={"finishedAt": "2026-03-02T07:00:00Z", "conditions": [
            {"type": "Complete", "status": "True", "reason": "Succeeded", "lastTransitionTime": "2026-03-02T07:00:00Z"}
        ]})  # fmt: skip

    def names(self):
        return [b["metadata"]["name"] for b in self.store.all("GreenJob")]


@pytest.fixture
def laptop(tmp_path):
    laptop = Laptop(tmp_path)
    yield laptop
    laptop.first.locks.release()
    laptop.store.close()


def test_a_new_job_is_created_with_its_regions_and_what_submitted_it(laptop):
    (uid,) = laptop.admit(job_body(), command="windward run", source="s")
    body = laptop.store.get("GreenJob", "default", "night")
    assert body["metadata"]["uid"] == uid and body["metadata"]["annotations"] == {COMMAND: "windward run", SOURCE: "s"}
    assert [r["metadata"]["name"] for r in laptop.store.regions_of([uid])] == ["here"]
    assert laptop.other().locks.driven(uid) and laptop.resumed == []


def test_the_same_work_goes_on_and_a_hold_does_not_make_it_another(laptop):
    (uid,) = laptop.admit(job_body())
    laptop.store.update("GreenJob", "default", "night", spec={"suspend": True})
    assert laptop.admit(job_body()) == [uid] and laptop.resumed == [uid]


@pytest.mark.parametrize("change", [{"duration": "2h"}, {"completeWithin": "9h"}])
def test_other_work_under_the_name_is_refused(laptop, change):
    laptop.admit(job_body())
    with pytest.raises(NameInUse) as refusal:
        laptop.admit(job_body("first"), job_body(**change))
    assert not refusal.value.same and refusal.value.driven and laptop.names() == ["night"], "all or none"


def test_what_another_command_drives_is_refused_as_the_same(laptop):
    laptop.admit(job_body())
    with pytest.raises(NameInUse) as refusal:
        laptop.admit(job_body(), by=laptop.other())
    assert refusal.value.same and refusal.value.driven


def test_a_name_that_nobody_chose_is_another_one_where_it_is_taken(laptop):
    laptop.admit(job_body(), any_name=True)
    laptop.admit(job_body(duration="2h"), any_name=True)
    other = laptop.other()
    laptop.admit(job_body(), by=other, any_name=True)
    other.locks.release()
    assert laptop.names() == ["night", "night-2", "night-3"]


def test_one_that_ended_makes_room_once_nobody_drives_it(laptop):
    (old,) = laptop.admit(job_body())
    laptop.end()
    with pytest.raises(NameInUse):
        laptop.admit(job_body())
    laptop.first.locks.release()
    (new,) = laptop.admit(job_body())
    assert new != old and laptop.resumed == []


def test_no_file_names_the_source(laptop):
    body = job_body()
    body["metadata"]["annotations"] = {SOURCE: "theirs", "own": "kept"}
    laptop.admit(body)
    assert laptop.store.get("GreenJob", "default", "night")["metadata"]["annotations"] == {"own": "kept"}


def test_the_command_to_resume_is_typed_where_it_was():
    notes = {COMMAND: "windward run x", "windward.dev/folder": "/my work"}
    assert command_to_resume(notes, Path("/my work")) == "windward run x"
    assert command_to_resume(notes, Path("/")) == "cd '/my work' && windward run x"
    assert command_to_resume({}, Path("/")) == ""
