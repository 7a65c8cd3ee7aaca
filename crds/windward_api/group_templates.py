"""Templates of Jobs, JobSets and TrainJobs in a GreenJob, as far as Windward reads or completes them.

Each has `metadata` (labels and annotations) and `spec`, like Kubernetes' own JobTemplateSpec. Windward starts, pauses
and ends what it creates from them: a field that would do the same beside it is refused, with what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, StrictStr, ValidationError

from windward_api.pod_groups import JobSetSpec, JobSpec, ReplicatedJob, TrainerSpec, TrainJobSpec
from windward_api.pod_template import (
    MOST_ITEMS,
    EnvVar,
    Name,
    PodSpec,
    PodTemplate,
    TemplatePart,
    template_sentences,
)

PREFIX = "windward.dev/"
QUEUE = "kueue.x-k8s.io/queue-name"
PATCH_MANAGER = f"{PREFIX}greenjob"  # the key of Windward's own entry in a TrainJob's runtimePatches
TRAINER_JOB = "node"  # in every runtime of Kubeflow Trainer: the replicated job that trains, and its container
Pods = Annotated[StrictInt, Field(ge=1, le=1_000_000)]


def _refuse(why: str) -> BeforeValidator:
    """Refuses any value of a field."""

    def check(value: Any) -> Any:
        if value is not None:
            raise ValueError(why)
        return value

    return BeforeValidator(check)


def _only_never(value: Any) -> Any:
    if value not in (None, "Never"):
        raise ValueError("must be Never: a container that is restarted in place hides how it ended")
    return value


def _not_ours(entries: Mapping[str, str] | None) -> Mapping[str, str] | None:
    for name in entries or {}:
        if name.startswith(PREFIX):
            raise ValueError(f"{name}: names with {PREFIX} are Windward's own: remove it")
        if name == QUEUE:
            fix = "remove it, or manage the workload itself instead (docs/managed-workloads.md)"
            raise ValueError(f"{name}: a queue would start and pause a run beside Windward: {fix}")
    return entries


Suspend = Annotated[
    None, _refuse("Windward starts and pauses the runs: remove it, and hold the GreenJob with spec.suspend")
]
ActiveDeadline = Annotated[
    None,
    _refuse(
        "it would fail a run whatever the plan is: remove it, the GreenJob is to finish by completeWithin or deadline"
    ),
]
TimeToLive = Annotated[
    None,
    _refuse("a run would be gone before its end is read: remove it, and set spec.ttlSecondsAfterFinished"),
]
ManagedBy = Annotated[None, _refuse("Windward reads what the built-in controller writes: remove it")]
Selector = Annotated[None, _refuse("Kubernetes selects the pods of each run itself: remove it")]
GivenName = Annotated[None, _refuse("each run has a name and the namespace of its GreenJob: remove it")]
Entries = Annotated[dict[StrictStr, StrictStr] | None, AfterValidator(_not_ours)]


class RunMetadata(TemplatePart):
    """Labels and annotations of what is created."""

    labels: Entries = None
    annotations: Entries = None
    name: GivenName = None
    generate_name: GivenName = None
    namespace: GivenName = None


class RunPodSpec(PodSpec):
    """Pods of a run."""

    restart_policy: Annotated[StrictStr | None, BeforeValidator(_only_never)] = None


class RunPodTemplate(PodTemplate):
    """A pod template of a run."""

    spec: RunPodSpec


class RunJobSpec(JobSpec):
    """`spec` of a Job that Windward creates, or that a JobSet of it creates."""

    template: RunPodTemplate
    parallelism: Pods | None = None
    completions: Pods | None = None
    suspend: Suspend = None
    active_deadline_seconds: ActiveDeadline = None
    ttl_seconds_after_finished: TimeToLive = None
    managed_by: ManagedBy = None
    selector: Selector = None
    manual_selector: Selector = None

    @property
    def expected_pods(self) -> int:
        """How many pods end well before all is done."""
        return self.pods if self.completions is None else self.completions


class JobTemplate(TemplatePart):
    """A Job without its name."""

    metadata: RunMetadata | None = None
    spec: RunJobSpec


class RunReplicatedJob(ReplicatedJob):
    """One kind of Job of a JobSet."""

    replicas: Pods = 1
    template: JobTemplate  # type: ignore[assignment]  # of the same fields, and stricter


class RunJobSetSpec(JobSetSpec):
    """`spec` of a JobSet that Windward creates."""

    replicated_jobs: Annotated[tuple[RunReplicatedJob, ...], Field(min_length=1, max_length=MOST_ITEMS)]
    suspend: Suspend = None
    ttl_seconds_after_finished: TimeToLive = None
    managed_by: ManagedBy = None

    @property
    def expected_pods(self) -> int:
        """How many pods end well before all is done."""
        return sum(job.replicas * job.template.spec.expected_pods for job in self.replicated_jobs)


class JobSetTemplate(TemplatePart):
    """A JobSet without its name."""

    metadata: RunMetadata | None = None
    spec: RunJobSetSpec


class RunTrainer(TrainerSpec):
    """What a TrainJob sets of its runtime's trainer."""

    num_nodes: Pods | None = None
    env: Annotated[tuple[EnvVar, ...] | None, Field(max_length=MOST_ITEMS)] = None


class PatchedJob(TemplatePart):
    """A replicated job of the runtime that a patch names."""

    name: Name


class PatchedJobSetSpec(TemplatePart):
    """What a patch says of the JobSet."""

    replicated_jobs: Annotated[tuple[PatchedJob, ...], Field(max_length=MOST_ITEMS)] = ()


class PatchedJobSet(TemplatePart):
    """What a patch says of the JobSet's template."""

    spec: PatchedJobSetSpec = PatchedJobSetSpec()


class PatchedRuntime(TemplatePart):
    """What a patch says of the runtime."""

    template: PatchedJobSet = PatchedJobSet()


class RuntimePatch(TemplatePart):
    """A patch of the runtime under the key of whoever makes it."""

    manager: Name
    training_runtime_spec: PatchedRuntime = PatchedRuntime()


class Initializer(TemplatePart):
    """What a TrainJob loads before it trains; each part is a replicated job of the runtime."""

    dataset: dict[str, Any] | None = None
    model: dict[str, Any] | None = None


def _other_managers(patches: tuple[RuntimePatch, ...]) -> tuple[RuntimePatch, ...]:
    if any(p.manager == PATCH_MANAGER for p in patches):
        raise ValueError(f"manager {PATCH_MANAGER} is Windward's own: name your patch otherwise")
    return patches


class RunTrainJobSpec(TrainJobSpec):
    """`spec` of a TrainJob that Windward creates."""

    trainer: RunTrainer = RunTrainer()
    initializer: Initializer = Initializer()
    runtime_patches: Annotated[tuple[RuntimePatch, ...], Field(max_length=64), AfterValidator(_other_managers)] = ()
    suspend: Suspend = None
    active_deadline_seconds: ActiveDeadline = None
    managed_by: ManagedBy = None

    @property
    def replicated_jobs(self) -> tuple[str, ...]:
        """The replicated jobs of the runtime that it names: the trainer's, those of what it loads, those it patches."""
        parts = ("dataset", self.initializer.dataset), ("model", self.initializer.model)
        loads = [f"{part}-initializer" for part, given in parts if given is not None]
        patched = [j.name for p in self.runtime_patches for j in p.training_runtime_spec.template.spec.replicated_jobs]
        return tuple(dict.fromkeys((TRAINER_JOB, *loads, *patched)))

    @property
    def expected_pods(self) -> int:
        """How many pods end well before all is done, as far as it says itself."""
        return (self.trainer.num_nodes or 1) + len(self.replicated_jobs) - 1


class TrainJobTemplate(TemplatePart):
    """A TrainJob without its name."""

    metadata: RunMetadata | None = None
    spec: RunTrainJobSpec


GroupTemplate = JobTemplate | JobSetTemplate | TrainJobTemplate
GROUP_TEMPLATES: Mapping[str, type[JobTemplate] | type[JobSetTemplate] | type[TrainJobTemplate]] = {
    "jobTemplate": JobTemplate,
    "jobSetTemplate": JobSetTemplate,
    "trainJobTemplate": TrainJobTemplate,
}  # field of a GreenJob's spec -> its model


def read_template(field: str, body: Any) -> GroupTemplate:
    """Returns the value of a field of `GROUP_TEMPLATES`, typed.

    Raises:
        ValueError: Windward cannot rely on it; one sentence for each fault, with the field and what to write there.
    """
    try:
        return GROUP_TEMPLATES[field].model_validate(body)
    except ValidationError as e:
        raise ValueError("; ".join(template_sentences(e, field))) from None


def checked_as(field: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Returns a check that gives the value of a field back as it came, or raises what `read_template` does."""

    def check(body: dict[str, Any]) -> dict[str, Any]:
        read_template(field, body)
        return body

    return check
