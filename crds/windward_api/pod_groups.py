"""The part of a Job, a JobSet or a TrainJob that Windward reads, typed: how many pods run together and ask for what.

Field names and defaults are those of `batch/v1`, `jobset.x-k8s.io/v1alpha2` and `trainer.kubeflow.org/v1alpha1`. The
rest of such a manifest is its own API's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StrictInt, StrictStr, ValidationError

from windward_api.pod_template import MOST_ITEMS, Name, PodTemplate, Resources, TemplatePart, template_sentences

Count = Annotated[StrictInt, Field(ge=0, le=1_000_000)]


class JobSpec(TemplatePart):
    """`spec` of a batch/v1 Job."""

    template: PodTemplate
    parallelism: Count | None = None
    completions: Count | None = None

    @property
    def pods(self) -> int:
        """How many of its pods run together at most."""
        parallel = 1 if self.parallelism is None else self.parallelism
        return parallel if self.completions is None else min(parallel, self.completions)

    def demand(self) -> dict[str, float]:
        """Returns `pods`, and what the scheduler reserves for all of them together."""
        return _times(self.template.spec.requests(), self.pods)


class JobTemplate(TemplatePart):
    """A Job without its name."""

    spec: JobSpec


class ReplicatedJob(TemplatePart):
    """One kind of Job of a JobSet."""

    name: Name
    replicas: Count = 1
    template: JobTemplate


class JobSetSpec(TemplatePart):
    """`spec` of a JobSet."""

    replicated_jobs: Annotated[tuple[ReplicatedJob, ...], Field(min_length=1, max_length=MOST_ITEMS)]

    def demand(self) -> dict[str, float]:
        """Returns `pods`, and what the scheduler reserves for all of them together."""
        total: dict[str, float] = {"pods": 0.0}
        for job in self.replicated_jobs:
            for name, amount in job.template.spec.demand().items():
                total[name] = total.get(name, 0.0) + amount * job.replicas
        return total


class RuntimeRef(TemplatePart):
    """The training runtime that a TrainJob rests on."""

    name: Name
    kind: StrictStr = "ClusterTrainingRuntime"


class TrainerSpec(TemplatePart):
    """What a TrainJob sets of its runtime's trainer."""

    num_nodes: Count | None = None
    resources_per_node: Resources | None = None


class TrainJobSpec(TemplatePart):
    """`spec` of a TrainJob."""

    runtime_ref: RuntimeRef
    trainer: TrainerSpec = TrainerSpec()

    def demand(self) -> dict[str, float]:
        """Returns `pods`, and what all nodes ask for together, as far as the TrainJob itself says: what it leaves to
        its runtime, one node and no request, is counted so."""
        nodes = 1 if self.trainer.num_nodes is None else self.trainer.num_nodes
        node = self.trainer.resources_per_node
        return _times(node.requested() if node is not None else {}, nodes)


PodGroup = JobSpec | JobSetSpec | TrainJobSpec


def read_group(model: type[JobSpec] | type[JobSetSpec] | type[TrainJobSpec], spec: Any, field: str) -> PodGroup:
    """Returns the `spec` of such an object, typed.

    Args:
        field: where it stands, for the sentences: `spec`, `spec.jobTemplate.spec`.

    Raises:
        ValueError: it cannot be relied on; one sentence for each fault, with the field and what to write there.
    """
    try:
        return model.model_validate(spec)
    except ValidationError as e:
        raise ValueError("; ".join(template_sentences(e, field))) from None


def _times(requests: Mapping[str, float], pods: int) -> dict[str, float]:
    return {"pods": float(pods), **{name: amount * pods for name, amount in requests.items()}}
