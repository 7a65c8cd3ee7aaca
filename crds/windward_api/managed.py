"""Managed workloads: a Job, JobSet or TrainJob of somebody else's making, with one label.

`windward.dev/managed: "true"` has Windward decide when it runs, and where its queue allows it. Annotations carry the
words of a GreenJob: own ones win over its namespace's, those over the installation's. What is read here is a GreenJob
whose work is the object itself; the same planner and reconciler serve both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from windward_api.greenjob import SPEC_RULES, GreenJob, GreenJobSpec, owner_profile
from windward_api.greenjob_status import GreenJobStatus
from windward_api.kinds import ONE_WORK, WorkKind
from windward_api.meta import ObjectMeta
from windward_api.pod_groups import JobSetSpec, JobSpec, TrainJobSpec, read_group
from windward_api.scalars import format_time
from windward_api.sentences import sentences

PREFIX = "windward.dev/"
LABEL_MANAGED = f"{PREFIX}managed"
STATUS = f"{PREFIX}status"  # the GreenJobStatus, as JSON: only the operator may write it
ERROR = f"{PREFIX}error"
SUMMARY = f"{PREFIX}summary"
LATEST_START = f"{PREFIX}latest-start"  # when what is held is released, whatever became of the operator
HELD_AT = f"{PREFIX}held-at"  # "TIME UID": Windward suspended this very object; without it somebody else did
RUN_NOW = f"{PREFIX}run-now"
WRITTEN = frozenset({STATUS, ERROR, SUMMARY, LATEST_START, HELD_AT, RUN_NOW})

_WORK = WorkKind("")  # the object is its own work: nothing is rendered for it


@dataclass(frozen=True, slots=True)
class ManagedKind:
    """A kind of workload that can be managed. All have `spec.suspend`.

    Attributes:
        complete: type of the condition that is True once its work is done; `Failed` is the other end of each.
        spec: model of the part of its `spec` that is read.
    """

    group: str
    version: str
    plural: str
    kind: str
    complete: str
    spec: type[JobSpec] | type[JobSetSpec] | type[TrainJobSpec]

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"


JOB = ManagedKind("batch", "v1", "jobs", "Job", "Complete", JobSpec)
JOB_SET = ManagedKind("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet", "Completed", JobSetSpec)
TRAIN_JOB = ManagedKind("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob", "Complete", TrainJobSpec)
MANAGED_KINDS = (JOB, JOB_SET, TRAIN_JOB)


class ManagedSpec(GreenJobSpec):
    """What the annotations say; the work is the object's own spec."""

    demand: Mapping[str, float]

    @model_validator(mode="after")
    def rules(self) -> ManagedSpec:
        for broken, sentence in SPEC_RULES:
            if sentence != ONE_WORK and broken(self):
                raise ValueError(sentence)
        return self

    @property
    def work_kind(self) -> WorkKind:
        return replace(_WORK, requests=lambda _: self.demand)

    @property
    def work(self) -> None:
        return None


class ManagedWorkload(GreenJob):
    """A workload with the label, read as a GreenJob.

    Attributes:
        managed: its kind.
        queue: its Kueue LocalQueue; '': none.
    """

    spec: ManagedSpec
    managed: Annotated[ManagedKind, Field(exclude=True)]
    queue: str = ""

    @property
    def object_kind(self) -> str:
        return self.managed.kind

    @property
    def object_api_version(self) -> str:
        return self.managed.api_version

    @property
    def queue_name(self) -> str:
        return self.queue

    @property
    def display_name(self) -> str:
        return f"{self.managed.kind.lower()}/{self.metadata.name}"

    @property
    def held_message(self) -> str:
        go_on = "set its Workload's spec.active to true" if self.queue else "set spec.suspend to false"
        return f"somebody else suspended it, or {PREFIX}suspend says so: {go_on}, and remove that annotation"

    @property
    def key(self) -> str:
        """Namespace, kind and name: a GreenJob, a Job and a JobSet may share a name."""
        return f"{self.metadata.namespace}/{self.display_name}"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _whole(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text


def _flag(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text, text)


_TEXT: Callable[[str], Any] = str
WORDS: Mapping[str, tuple[str, Callable[[str], Any]]] = {  # annotation without its prefix -> field of spec, reader
    "complete-within": ("completeWithin", _TEXT),
    "deadline": ("deadline", _TEXT),
    "duration": ("duration", _TEXT),
    "duration-p90": ("durationP90", _TEXT),
    "profile": ("profile", _TEXT),
    "interruption": ("interruption.policy", _TEXT),
    "interruption-overhead": ("interruption.overhead", _TEXT),
    "suspend": ("suspend", _flag),
    "regions": ("placement.regions", _words),
    "home": ("placement.home", _TEXT),
    "watts": ("power.watts", _whole),
    "priority": ("priority", _whole),
    "min-saving-percent": ("policy.minSavingPercent", _whole),
    "fallback": ("policy.fallback", _TEXT),
    "delay-grams-per-hour": ("policy.delayGramsPerHour", _whole),
}
_ONE_OF = ("complete-within", "deadline")


def words_of(annotations: Mapping[str, str]) -> dict[str, str]:
    """Returns the words among the annotations of an object or a namespace, without their prefix.

    Raises:
        ValueError: one with our prefix is no word; the nearest is named.
    """
    out: dict[str, str] = {}
    for name, text in annotations.items():
        word = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or name in WRITTEN:
            continue
        if word not in WORDS:
            near = get_close_matches(word, WORDS, n=1, cutoff=0.6)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else f"known here are {', '.join(WORDS)}"
            raise ValueError(f"annotation {name}: unknown: {hint}")
        out[word] = str(text)
    return out


def layered(layers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Returns the words of all layers, later ones winning; a layer that gives one finish-by takes the other's place."""
    out: dict[str, str] = {}
    for layer in layers:
        if any(word in layer for word in _ONE_OF):
            out = {word: text for word, text in out.items() if word not in _ONE_OF}
        out |= layer
    return out


def read_managed(
    body: Mapping[str, Any], kind: ManagedKind, defaults: Mapping[str, str], *, queue: str = ""
) -> ManagedWorkload:
    """Returns a labelled object as a GreenJob.

    Args:
        defaults: words of its namespace and of the installation.
        queue: the Kueue LocalQueue that it names; '': none.

    Raises:
        ValueError: its annotations or its spec cannot be relied on; each sentence names the annotation or field.
    """
    group = read_group(kind.spec, body.get("spec"), "spec")
    words = layered((defaults, words_of(body["metadata"].get("annotations") or {})))
    if "duration" not in words and (profile := owner_profile(ObjectMeta.model_validate(body["metadata"]))):
        words = {"profile": profile} | words
    if missing := [w for w in _MISSING if not ({w, *_INSTEAD.get(w, ())} & words.keys())]:
        raise ValueError("; ".join(_MISSING[w] for w in missing))
    spec = _spec_of(words)
    spec["demand"], spec["backoffLimit"] = group.demand(), 0
    shaped = {"metadata": body["metadata"], "spec": spec, "managed": kind, "queue": queue}
    try:
        job = ManagedWorkload.model_validate({**shaped, "status": status_in(body)})
        job.finish_by()
    except ValidationError as e:
        raise ValueError("; ".join(_in_annotations(s) for s in sentences(e))) from None
    return job


_MISSING = {
    "duration": f"annotation {PREFIX}duration: is required: say how long the work takes, as in 4h30m, here or on the "
    f"namespace, or name the past runs that say it in {PREFIX}profile",
    "regions": f"annotation {PREFIX}regions: is required: name the GreenRegion that its nodes belong to, here or on "
    "the namespace; with a queue, all whose queues may take it",
}


_INSTEAD = {"duration": ("profile",)}


def _spec_of(words: Mapping[str, str]) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    for word, text in words.items():
        path, reader = WORDS[word]
        *parts, last = path.split(".")
        node = spec
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = reader(text)
    return spec


def held_annotation(uid: str, at: datetime) -> str:
    """Returns the text of the annotation that says that Windward suspended an object."""
    return f"{format_time(at)} {uid}"


def is_paused_by_us(body: Mapping[str, Any]) -> bool:
    """Returns whether Windward suspended this object, or took it out of its queue."""
    metadata = body["metadata"]
    return str((metadata.get("annotations") or {}).get(HELD_AT, "")).endswith(f" {metadata.get('uid')}")


def status_annotation(uid: str, status: GreenJobStatus) -> str:
    """Returns the text of the status annotation: with the uid, since manifests are copied with their annotations."""
    value = status.model_dump(by_alias=True, mode="json", exclude_none=True)
    return json.dumps({"uid": uid, "status": value}, separators=(",", ":"))


def status_in(body: Mapping[str, Any]) -> GreenJobStatus:
    """The status that stands in the annotation; an empty one where it is none of this very object."""
    metadata = body["metadata"]
    text = (metadata.get("annotations") or {}).get(STATUS, "")
    try:
        annotation = json.loads(text) if text else {}
        ours = isinstance(annotation, dict) and annotation.get("uid") == metadata.get("uid")
        return GreenJobStatus.model_validate(annotation["status"]) if ours else GreenJobStatus()
    except (ValueError, KeyError, RecursionError):
        return GreenJobStatus()


def _in_annotations(sentence: str) -> str:
    """A sentence on fields of `spec` in the words of annotations."""
    for word, (path, _) in sorted(WORDS.items(), key=lambda item: -len(item[1][0])):
        sentence = sentence.replace(f"spec.{path}", f"annotation {PREFIX}{word}")
        sentence = re.sub(rf"(?<!spec\.)\b{re.escape(path.rsplit('.', 1)[-1])}\b(?![-/])", word, sentence)
    return sentence
