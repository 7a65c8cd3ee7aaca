"""Submits jobs on one machine: each gets a name and is created, or is matched with the same job that waits there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from windward.cluster.locks import Locks
from windward.cluster.parse import read_job
from windward.cluster.port import BadObject
from windward.cluster.store import Store
from windward.domain.observed import Observed

# Annotations of a job of this machine: what submitted it, and where.
COMMAND = "windward.dev/command"
FOLDER = "windward.dev/folder"
SOURCE = "windward.dev/source"  # where its intensities come from, for a later command

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Submission:
    """Jobs that are to run here, with the regions that they name.

    Attributes:
        command: the command line that submitted them, to resume with; '' if there is none.
        source: where the jobs' intensities come from (`settling.source_note`); '' if no source was chosen.
        any_name: whether a name that is taken may be replaced: the user did not choose it.
    """

    jobs: tuple[Mapping[str, Any], ...]
    regions: tuple[Mapping[str, Any], ...]
    command: str = ""
    folder: str = ""
    any_name: bool = False
    source: str = ""


class NameInUse(Exception):
    """A job of this name has not ended, and is different or driven by another process. Nothing was changed."""

    def __init__(self, body: Mapping[str, Any], *, driven: bool, same: bool) -> None:
        meta = body["metadata"]
        super().__init__(f"{meta['namespace']}/{meta['name']}")
        self.body, self.driven, self.same = body, driven, same


@dataclass(frozen=True, slots=True)
class Submissions:
    """Admits submissions into the store, one process at a time.

    Attributes:
        locks: of the jobs that this process drives.
    """

    store: Store
    locks: Locks

    def admit(self, submission: Submission, now: Callable[[], datetime], resume: Callable[[str], None]) -> list[str]:
        """Admits all jobs or none. A new job is created with a copy of its regions; a waiting job with the same spec is
        resumed; an ended one is replaced (its account stays in the ledger). Returns their uids, in order.

        Args:
            now: returns the creation time of new jobs.
            resume: called with the uid of each resumed job; it may set the clock that `now` reads.

        Raises:
            NameInUse: a job of a name that the user chose has not ended, and is driven or has another spec.
        """
        with self.locks.admission():
            admissions = [self._admission(job, submission) for job in submission.jobs]
            return [self._enter(old, job, submission, now, resume) for old, job in admissions]

    def _admission(self, submitted: Mapping[str, Any], of: Submission) -> tuple[Body | None, Body]:
        """The stored object to resume or replace, if any, and the job under its final name. Writes nothing."""
        job: Body = json.loads(json.dumps(submitted))
        meta = job["metadata"]
        there = {
            b["metadata"]["name"]: b
            for b in self.store.all("GreenJob")
            if b["metadata"]["namespace"] == meta.get("namespace", "default")
        }
        base = meta["name"]
        names = [base, *(f"{base}-{i}" for i in range(2, len(there) + 3))] if of.any_name else [base]
        for name in names:  # the same work that waits goes first
            old = there.get(name)
            if old is not None and not _ended(old) and self._same(old, job, of.regions):
                if self.locks.take(old["metadata"]["uid"]):
                    return old, {**job, "metadata": {**meta, "name": name}}
                if not of.any_name:
                    raise NameInUse(old, driven=True, same=True)
        for name in names:
            old = there.get(name)
            if old is None or (_ended(old) and not self.locks.driven(old["metadata"]["uid"])):
                return old, {**job, "metadata": {**meta, "name": name}}
        blocking = there[base]
        raise NameInUse(blocking, driven=self.locks.driven(blocking["metadata"]["uid"]), same=False)

    def _same(self, old: Body, job: Body, regions: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a stored job has the spec that is submitted now, apart from `suspend`, and the same regions."""
        kept = {b["metadata"]["name"]: b["spec"] for b in self.store.regions_of([old["metadata"]["uid"]])}
        given = {b["metadata"]["name"]: json.loads(json.dumps(b["spec"])) for b in regions}
        needed = {name: kept.get(name) for name in given}
        return _work(old) == _work(job) and needed == given

    def _enter(
        self, old: Body | None, job: Body, of: Submission, now: Callable[[], datetime], resume: Callable[[str], None]
    ) -> str:
        """Create the job, or take up the one that waits."""
        if old is not None:
            uid = str(old["metadata"]["uid"])
            if not _ended(old):
                resume(uid)
                return uid
            self.store.delete_job(old["metadata"]["namespace"], old["metadata"]["name"], uid)
        notes = {k: v for k, v in ((COMMAND, of.command), (FOLDER, of.folder), (SOURCE, of.source)) if v}
        meta = job["metadata"]
        given = {k: v for k, v in (meta.get("annotations") or {}).items() if k != SOURCE}  # no file names our source
        at = now()
        stored = self.store.apply({**job, "metadata": {**meta, "annotations": {**given, **notes}}}, at)
        uid = str(stored["metadata"]["uid"])
        for region in of.regions:
            self.store.apply({**region, "metadata": {**region["metadata"], "namespace": uid}}, at)
        self.locks.take(uid)
        return uid


def command_to_resume(annotations: Mapping[str, str], folder: Path) -> str:
    """Returns the command that resumes a job, to be typed in `folder`; '' if it is unknown."""
    command, where = annotations.get(COMMAND, ""), annotations.get(FOLDER, "")
    moved = command and where and where != str(folder)
    return f"cd {shlex.quote(where)} && {command}" if moved else command


def _ended(body: Body) -> bool:
    """Whether a stored job has ended or cannot be read any more."""
    job = read_job(body)
    return isinstance(job, BadObject) or Observed(job).ended


def _work(body: Mapping[str, Any]) -> Body:
    return {k: v for k, v in body["spec"].items() if k != "suspend"}
