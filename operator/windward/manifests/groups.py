"""A run as a group of pods: a Job, a JobSet or a TrainJob, from the template of its GreenJob. Pure.

Each attempt is an object of its own. A JobSet that is resumed does not run completed indexes again, merges node
selectors of two regions into one that no node matches, and a TrainJob's trainer never changes; a new one has none of
these. What was done before is in the checkpoints.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from windward.manifests.environment import RunFacts, environment
from windward.manifests.pod import (
    REPORT_FILE,
    STORAGE_MOUNT,
    Body,
    RuntimeImage,
    claim_of,
    complete,
    labels_of,
    owner_reference,
    storage_mount,
    storage_volume,
    with_labels,
    with_variables,
)
from windward_api import contract
from windward_api.group_templates import (
    PATCH_MANAGER,
    TRAINER_JOB,
    GroupTemplate,
    JobSetTemplate,
    JobTemplate,
    TrainJobTemplate,
    read_template,
)


def render_job_template(facts: RunFacts, runtime: RuntimeImage) -> Body:
    """Returns the Job of one attempt, with all its pods."""
    template, body = _read(facts), _object(facts, "batch/v1", "Job")
    assert isinstance(template, JobTemplate)
    body["spec"].setdefault("podReplacementPolicy", "Failed")  # a pod that is ending still draws power
    complete(body["spec"]["template"], facts, runtime, _pods(template))
    return body


def render_job_set(facts: RunFacts, runtime: RuntimeImage) -> Body:
    """Returns the JobSet of one attempt; its Jobs and pods have the labels of the run."""
    template, body = _read(facts), _object(facts, "jobset.x-k8s.io/v1alpha2", "JobSet")
    assert isinstance(template, JobSetTemplate)
    for job in body["spec"]["replicatedJobs"]:
        with_labels(job["template"], facts)
        complete(job["template"]["spec"]["template"], facts, runtime, _pods(template))
    return body


def render_train_job(facts: RunFacts, runtime: RuntimeImage) -> Body:
    """Returns the TrainJob of one attempt.

    Its pod templates are its runtime's: they are completed by a patch of each replicated job that it names, and the
    trainer's environment by `trainer.env`, which a patch may not set.
    """
    template, body = _read(facts), _object(facts, "trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert isinstance(template, TrainJobTemplate)
    spec, claim = body["spec"], claim_of(facts, runtime)
    variables = environment(facts, STORAGE_MOUNT if claim is not None else None, _pods(template))
    variables[contract.ENV_REPORT_FILE] = REPORT_FILE
    trainer = spec["trainer"] = dict(spec.get("trainer") or {})
    trainer["env"] = with_variables(trainer.get("env"), variables)
    jobs = [_patched(name, facts, claim) for name in template.spec.replicated_jobs]
    patch = {"template": {"metadata": {"labels": labels_of(facts)}, "spec": {"replicatedJobs": jobs}}}
    spec["runtimePatches"] = [
        *(spec.get("runtimePatches") or []),
        {"manager": PATCH_MANAGER, "trainingRuntimeSpec": patch},  # the last one wins: its region is the run's
    ]
    return body


def _read(facts: RunFacts) -> GroupTemplate:
    spec = facts.job.spec
    return read_template(spec.work_kind.field, spec.work)


def _pods(template: GroupTemplate) -> int:
    """How many pods draw the declared power together."""
    return max(1, round(template.spec.demand()["pods"]))


def _object(facts: RunFacts, api_version: str, kind: str) -> Body:
    template = deepcopy(facts.job.spec.work)
    metadata = template.get("metadata") or {}
    annotations = metadata.get("annotations")
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": facts.name,
            "namespace": facts.job.metadata.namespace,
            "labels": {**(metadata.get("labels") or {}), **labels_of(facts)},
            **({"annotations": annotations} if annotations else {}),
            "ownerReferences": [owner_reference(facts)],
        },
        "spec": template["spec"],
    }


def _patched(name: str, facts: RunFacts, claim: str | None) -> Body:
    """The patch of one replicated job: labels by which its Jobs and pods are known, the region's nodes, the storage."""
    pod: dict[str, Any] = {}
    if facts.region.spec.node_selector:
        pod["nodeSelector"] = dict(facts.region.spec.node_selector)
    if claim is not None and name == TRAINER_JOB:
        pod["volumes"] = [storage_volume(claim)]
        pod["containers"] = [{"name": TRAINER_JOB, "volumeMounts": [storage_mount()]}]
    labels = {"metadata": {"labels": labels_of(facts)}}
    return {"name": name, "template": {**labels, "spec": {"template": {**labels, **({"spec": pod} if pod else {})}}}}
