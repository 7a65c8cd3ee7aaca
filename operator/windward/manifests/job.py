"""A run as a batch/v1 Job."""

from __future__ import annotations

from windward.manifests.environment import RunFacts
from windward.manifests.pod import Body, RuntimeImage, labels_of, owner_reference, pod_template


def render_job(facts: RunFacts, runtime: RuntimeImage) -> Body:
    """Returns the Job of one attempt.

    One pod, never replaced by the Job controller: a new pod is a new attempt, decided in one place.
    """
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": facts.name,
            "namespace": facts.job.metadata.namespace,
            "labels": labels_of(facts),
            "ownerReferences": [owner_reference(facts)],
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "template": pod_template(facts, runtime),
        },
    }
