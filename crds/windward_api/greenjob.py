"""GreenJob: one piece of work, with the freedom it has in time and place."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from windward_api.greenjob_status import GreenJobStatus
from windward_api.group_templates import checked_as
from windward_api.kinds import KINDS, ONE_WORK, WorkKind, kinds_in
from windward_api.meta import API_VERSION, ObjectMeta
from windward_api.pod_template import checked_template
from windward_api.scalars import SUBDOMAIN_PATTERN, Duration, Instant, ObjectName, ProfileName
from windward_api.workload import InferSpec, TrainSpec, Words


class InterruptionPolicy(StrEnum):
    """Never: once started, a run goes to its end. Checkpoint: it pauses on SIGTERM and resumes later, elsewhere too."""

    NEVER = "Never"
    CHECKPOINT = "Checkpoint"


class Fallback(StrEnum):
    """What to do while no usable forecast is to be had."""

    RUN_NOW = "RunNow"
    RUN_AT_LATEST = "RunAtLatest"


class Interruption(Words):
    """Whether a run may be paused, and what a pause costs."""

    policy: Annotated[
        InterruptionPolicy,
        Field(
            description="Never: runs without a break. Checkpoint: on SIGTERM it saves, exits with 75 and resumes later."
        ),
    ] = InterruptionPolicy.NEVER
    overhead: Annotated[
        Duration | None,
        Field(description="Running time that each resume costs (start-up, loading, lost work); default 1m."),
    ] = None


class Placement(Words):
    """Where the work may run. No region is ever guessed."""

    regions: Annotated[
        tuple[ObjectName, ...],
        Field(
            min_length=1,
            max_length=32,
            description="Names of the GreenRegions that may run it.",
            json_schema_extra={"listType": "set"},
        ),
    ]
    home: Annotated[
        ObjectName | None,
        Field(
            description="The region where it would run without Windward; savings are counted against it. "
            "Needed when regions names several."
        ),
    ] = None


class PowerLevel(Words):
    """A measured way to run the same work, slower or faster than declared, at another draw."""

    name: Annotated[ObjectName, Field(description="Told to the container as WINDWARD_POWER_LEVEL.")]
    watts: Annotated[
        int, Field(ge=1, le=10_000_000, description="Mean draw of one run at this level, at the meter, before PUE.")
    ]
    duration: Annotated[Duration, Field(description="How long the whole work takes at this level, uninterrupted.")]
    cap_watts: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000_000,
            description="Told to the container as WINDWARD_POWER_CAP_WATTS at this level, instead of power.capWatts.",
        ),
    ] = None


class Power(Words):
    """What the work draws."""

    watts: Annotated[
        int,
        Field(
            ge=1,
            le=10_000_000,
            description="Mean draw of one run while it works, at the meter, before PUE. "
            "Plans rest on it; receipts do too where nothing can be measured.",
        ),
    ]
    cap_watts: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000_000,
            description="Mean draw that a run is to stay below: told to the container as WINDWARD_POWER_CAP_WATTS, "
            "kept by infer by pausing between steps. watts and duration are those under it.",
        ),
    ] = None
    levels: Annotated[
        tuple[PowerLevel, ...],
        Field(
            max_length=16,
            description="Measured ways to run beside the declared one, such as under power caps: each run is at the "
            "one that emits least and finishes in time. Savings are counted against the declared one.",
            json_schema_extra={"listMapKey": "name"},
        ),
    ] = ()

    def level(self, name: str) -> PowerLevel | None:
        """The level of this name; None: as declared."""
        return next((v for v in self.levels if v.name == name), None)


class Policy(Words):
    """What the planner weighs."""

    min_saving_percent: Annotated[
        int, Field(ge=0, le=99, description="Below this saving the job runs at once, at home.")
    ] = 2
    fallback: Annotated[
        Fallback,
        Field(
            description="Without a usable forecast: RunNow, or RunAtLatest (wait for one until the latest safe start). "
            "While nobody knows how long the work takes: RunNow."
        ),
    ] = Fallback.RUN_NOW
    delay_grams_per_hour: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="What having the result an hour sooner is worth, in grams: it waits only while an hour of "
            "waiting saves more. Never counted as emissions.",
        ),
    ] = 0


class Storage(Words):
    """Where checkpoints, models and outputs live: on a volume, or in an object store."""

    claim_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            description="PersistentVolumeClaim of this namespace, mounted into each run. "
            "It must be reachable from every region that placement names. Either this or uri.",
        ),
    ] = None
    uri: Annotated[
        str | None,
        Field(
            min_length=6,
            max_length=512,
            description="Object store instead of a volume: s3://bucket/path, gs://bucket/path, "
            "azblob://container/path, or file:///folder. Not for infer. Either this or claimName.",
        ),
    ] = None
    credentials_secret: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=SUBDOMAIN_PATTERN,
            description="Secret of this namespace whose keys become environment variables of each run, such as "
            "AWS_ACCESS_KEY_ID. The kubelet reads it, the operator never does. Absent: the pod's own identity.",
        ),
    ] = None


class GreenJobSpec(Words):
    """One piece of work: when, where, what, how much."""

    complete_within: Annotated[
        Duration | None, Field(description="Finish by this long after creation. Either this or deadline.")
    ] = None
    deadline: Annotated[Instant | None, Field(description="Finish by this time. Either this or completeWithin.")] = None
    duration: Annotated[
        Duration | None,
        Field(description="How long the work takes when nothing interrupts it. Absent: as past runs of profile took."),
    ] = None
    duration_p90: Annotated[
        Duration | None,
        Field(description="How long it takes at most in nine of ten runs: it starts early enough for that."),
    ] = None
    profile: Annotated[
        ProfileName | None,
        Field(
            description="Name of the kind of run in this namespace: what its successful runs took is learned. "
            "Default: the GreenCronJob or CronJob that owns it. Needed where duration is absent."
        ),
    ] = None
    interruption: Annotated[Interruption, Field(description="Whether runs may be paused.")] = Interruption()
    suspend: Annotated[bool, Field(description="True pauses the job, or holds it before it starts, until false.")] = (
        False
    )
    placement: Annotated[Placement, Field(description="Where it may run.")]
    power: Annotated[Power | None, Field(description="What it draws; default 100 W, marked estimated.")] = None
    priority: Annotated[
        int,
        Field(
            ge=-1000,
            le=1000,
            description="Jobs of higher priority get their room first; lower ones what is left. What runs goes on.",
        ),
    ] = 0
    policy: Annotated[Policy, Field(description="What the planner weighs.")] = Policy()
    storage: Annotated[
        Storage | None,
        Field(
            description="Volume or object store for checkpoints and results; train and infer fall back to the "
            "operator's default claim."
        ),
    ] = None
    template: Annotated[
        Annotated[dict[str, Any], AfterValidator(checked_template)] | None,
        Field(
            description="Pod template of any container; the pause contract is SIGTERM, checkpoint, exit 75.",
            json_schema_extra={"windward": "podTemplate"},
        ),
    ] = None
    job_template: Annotated[
        Annotated[dict[str, Any], AfterValidator(checked_as("jobTemplate"))] | None,
        Field(
            description="Job of several pods: metadata and spec of a batch/v1 Job, such as an indexed one. "
            "Each run is a new Job with all its pods.",
            json_schema_extra={"windward": "podTemplate"},
        ),
    ] = None
    job_set_template: Annotated[
        Annotated[dict[str, Any], AfterValidator(checked_as("jobSetTemplate"))] | None,
        Field(
            description="JobSet: metadata and spec of a jobset.x-k8s.io/v1alpha2 JobSet. Each run is a new JobSet.",
            json_schema_extra={"windward": "podTemplate"},
        ),
    ] = None
    train_job_template: Annotated[
        Annotated[dict[str, Any], AfterValidator(checked_as("trainJobTemplate"))] | None,
        Field(
            description="TrainJob of Kubeflow Trainer: metadata and spec of a trainer.kubeflow.org/v1alpha1 TrainJob. "
            "Each run is a new TrainJob.",
            json_schema_extra={"windward": "podTemplate"},
        ),
    ] = None
    train: Annotated[TrainSpec | None, Field(description="Train a model with Windward's own runtime.")] = None
    infer: Annotated[InferSpec | None, Field(description="Run prompts in a batch with Windward's own runtime.")] = None
    backoff_limit: Annotated[int, Field(ge=0, le=100, description="Failed runs that are tried again.")] = 2
    ttl_seconds_after_finished: Annotated[
        int | None,
        Field(ge=0, le=31_536_000, description="Delete the GreenJob this long after it ended; absent: keep it."),
    ] = None

    @model_validator(mode="after")
    def rules(self) -> GreenJobSpec:
        for broken, sentence in SPEC_RULES:
            if broken(self):
                raise ValueError(sentence)
        return self

    @property
    def work_kind(self) -> WorkKind:
        """The kind of work that it asks for."""
        return kinds_in(self)[0]

    @property
    def work(self) -> Any:
        """What it says of that work: the value of the kind's field."""
        return getattr(self, self.work_kind.attribute)


# The same sentences as the CRD's CEL rules (`windward_api.rules`): a laptop refuses what the API server refuses.
DURATION_OR_PROFILE = (
    "spec: set duration, profile or both: say how long the work takes, or name the past runs that say it"
)
LATEST_NEEDS_DURATION = (
    "spec.policy.fallback: RunAtLatest needs spec.duration to know a latest start: state it, or say RunNow"
)
P90_NEEDS_DURATION = "spec.durationP90: needs spec.duration: state it too, or remove both and let past runs say them"
LEVELS_NEED_DURATION = "spec.power.levels: need spec.duration, which their durations are compared with: state it too"
ONE_FINISH = "spec: set exactly one of completeWithin, deadline: give the time by which the job must be finished"
HOME_NEEDED = (
    "spec.placement.home: required when regions names several: name the region where the job would run without Windward"
)
HOME_KNOWN = "spec.placement.home: must be one of spec.placement.regions: add it there or name another"
LONG_ENOUGH = "spec.duration: must not exceed spec.completeWithin: allow more time or state a shorter duration"
P90_LONGER = "spec.durationP90: must not be shorter than spec.duration: state a longer one or remove it"
OVERHEAD_USED = "spec.interruption.overhead: has no effect with policy Never: set policy: Checkpoint or remove it"
CAP_ABOVE = "spec.power.capWatts: must not be below spec.power.watts: state the draw under the cap"
LEVELS_APART = "spec.power.levels: two have the same name: rename one or remove it"
LEVEL_CAP_ABOVE = "spec.power.levels: capWatts must not be below watts: state the draw under the cap"
ONE_STORAGE = "spec.storage: set exactly one of claimName, uri: name a volume or an object store"
URI_BARE = (
    "spec.storage.uri: must hold no credentials before '@': put them into a Secret and name it in credentialsSecret"
)
URI_SHAPE = (
    "spec.storage.uri: must be an s3://, gs://, azblob:// or file:// address: write s3://bucket/path or file:///folder "
    "in letters, digits, '.', '_', '=' and '-', with no part that begins with '.', '=' or '-'"
)
CREDENTIALS_USED = (
    "spec.storage.credentialsSecret: has no effect without an s3://, gs:// or azblob:// uri: name one or remove it"
)

_URI_PART = "[A-Za-z0-9_][A-Za-z0-9_.=-]*"
URI_PATTERN = rf"^((s3|gs|azblob)://[A-Za-z0-9][A-Za-z0-9_.-]*|file:///{_URI_PART})(/{_URI_PART})*$"

SpecRule = tuple[Callable[["GreenJobSpec"], bool], str]


def _has(field: str, broken: Callable[[GreenJobSpec], bool]) -> Callable[[GreenJobSpec], bool]:
    """Returns a check of specs that set `field`; others pass."""
    return lambda s: getattr(s, field) is not None and broken(s)


def _cap_rules() -> tuple[SpecRule, ...]:
    """Rules on a cap that follow from the kind of work."""
    return tuple((_has(k.attribute, _capped), k.cap_refused) for k in KINDS if k.cap_refused)


def _level_rules() -> tuple[SpecRule, ...]:
    """Rules on power levels that follow from the kind of work."""
    refused = ((_has(k.attribute, lambda s: len(_levels(s)) > 0), k.levels_refused) for k in KINDS if k.levels_refused)
    capped = (
        (_has(k.attribute, lambda s: any(v.cap_watts is None for v in _levels(s))), k.levels_capped)
        for k in KINDS
        if k.levels_capped
    )
    return (*refused, *capped)


def _storage_rules() -> tuple[SpecRule, ...]:
    """Rules on the storage, and those that follow from the kind of work."""
    rules: tuple[tuple[Callable[[Storage], bool], str], ...] = (
        (lambda t: (t.claim_name is None) == (t.uri is None), ONE_STORAGE),
        (lambda t: t.uri is not None and "@" in t.uri, URI_BARE),
        (lambda t: t.uri is not None and not re.fullmatch(URI_PATTERN, t.uri), URI_SHAPE),
        (lambda t: t.credentials_secret is not None and (t.uri is None or t.uri.startswith("file:")), CREDENTIALS_USED),
    )
    on_storage = ((_on_storage(broken), sentence) for broken, sentence in rules)
    of_kind = ((_has(k.field, _in_object_store), k.uri_refused) for k in KINDS if k.uri_refused)
    return (*on_storage, *of_kind)


def _on_storage(broken: Callable[[Storage], bool]) -> Callable[[GreenJobSpec], bool]:
    """Returns a check of the storage of specs that have one; others pass."""
    return lambda s: s.storage is not None and broken(s.storage)


def _in_object_store(spec: GreenJobSpec) -> bool:
    return spec.storage is not None and spec.storage.uri is not None


def _capped(spec: GreenJobSpec) -> bool:
    return spec.power is not None and spec.power.cap_watts is not None


SPEC_RULES: tuple[SpecRule, ...] = (
    (lambda s: s.duration is None and s.profile is None, DURATION_OR_PROFILE),
    (lambda s: s.duration is None and s.policy.fallback is Fallback.RUN_AT_LATEST, LATEST_NEEDS_DURATION),
    (lambda s: s.duration is None and s.duration_p90 is not None, P90_NEEDS_DURATION),
    (lambda s: s.duration is None and len(_levels(s)) > 0, LEVELS_NEED_DURATION),
    (lambda s: (s.complete_within is None) == (s.deadline is None), ONE_FINISH),
    (lambda s: len(kinds_in(s)) != 1, ONE_WORK),
    (lambda s: s.placement.home is None and len(s.placement.regions) > 1, HOME_NEEDED),
    (lambda s: s.placement.home is not None and s.placement.home not in s.placement.regions, HOME_KNOWN),
    (lambda s: _is_longer(s.duration, s.complete_within), LONG_ENOUGH),
    (lambda s: _is_longer(s.duration, s.duration_p90), P90_LONGER),
    (
        lambda s: s.interruption.policy == InterruptionPolicy.NEVER and s.interruption.overhead is not None,
        OVERHEAD_USED,
    ),
    *_cap_rules(),
    (
        lambda s: s.power is not None and s.power.cap_watts is not None and s.power.cap_watts < s.power.watts,
        CAP_ABOVE,
    ),
    (lambda s: len({v.name for v in _levels(s)}) < len(_levels(s)), LEVELS_APART),
    *_level_rules(),
    (lambda s: any(v.cap_watts is not None and v.cap_watts < v.watts for v in _levels(s)), LEVEL_CAP_ABOVE),
    *_storage_rules(),
)


def _is_longer(a: timedelta | None, b: timedelta | None) -> bool:
    return a is not None and b is not None and a > b


def _levels(spec: GreenJobSpec) -> tuple[PowerLevel, ...]:
    return spec.power.levels if spec.power is not None else ()


class GreenJob(Words):
    """One piece of work with a finish-by time."""

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["windward.dev/v1alpha1"] = API_VERSION
    kind: Literal["GreenJob"] = "GreenJob"
    metadata: ObjectMeta
    spec: GreenJobSpec
    status: GreenJobStatus = GreenJobStatus()

    @property
    def object_kind(self) -> str:
        """Kind of the object that it stands in."""
        return self.kind

    @property
    def object_api_version(self) -> str:
        """API version of that object."""
        return self.api_version

    @property
    def queue_name(self) -> str:
        """The queue in which its runs wait for room; '': none."""
        return ""

    @property
    def display_name(self) -> str:
        """What people call it within its namespace."""
        return self.metadata.name

    @property
    def held_message(self) -> str:
        """Why it is held while `spec.suspend` is true, and how it goes on."""
        return "spec.suspend is true: set it to false to go on"

    @property
    def run_now_command(self) -> str:
        """The command that skips its wait."""
        namespace = "" if self.metadata.namespace == "default" else f" -n {self.metadata.namespace}"
        return f"windward run-now {self.display_name}{namespace}"

    @property
    def profile(self) -> str:
        """The name under which its runs are remembered in its namespace; '': none."""
        return self.spec.profile or owner_profile(self.metadata)

    @property
    def key(self) -> str:
        """Namespace and name."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def finish_by(self) -> datetime:
        """The time by which the work must be finished, UTC.

        Raises:
            ValueError: completeWithin is used before the object has a creation time.
        """
        if self.spec.deadline is not None:
            return self.spec.deadline
        if self.metadata.creation_timestamp is None or self.spec.complete_within is None:
            raise ValueError("completeWithin counts from creation, and the object has no creation time yet")
        return self.metadata.creation_timestamp + self.spec.complete_within

    def overhead(self) -> timedelta:
        """Running time that a resume costs."""
        return self.spec.interruption.overhead or timedelta(minutes=1)


def owner_profile(metadata: ObjectMeta) -> str:
    """Returns the name of the GreenCronJob or CronJob that controls an object; '' where none does."""
    refs = [r for r in metadata.owner_references if r.get("controller") is True]
    names = [str(r.get("name", "")) for r in refs if r.get("kind") in ("GreenCronJob", "CronJob")]
    return profile_named(names[0]) if names else ""


def profile_named(name: str) -> str:
    """Returns the profile of what an object of this name creates: the name, cut to the length of a profile's."""
    return name[:63].rstrip("-.")
