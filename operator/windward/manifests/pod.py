"""What children of every kind have: labels, an owner, and the pod that keeps the contract."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from windward.manifests.environment import RunFacts, environment, runtime_arguments
from windward_api import contract
from windward_api.meta import API_VERSION

LABEL_JOB = "windward.dev/job-name"
LABEL_UID = "windward.dev/job-uid"
LABEL_ATTEMPT = "windward.dev/attempt"
LABEL_REGION = "windward.dev/region"
LABEL_LEVEL = "windward.dev/power-level"
PAUSED_AT = "windward.dev/paused-at"  # annotation of a child: when it was told to pause
STORAGE_MOUNT = "/windward/storage"
GRACE_S = 120  # a checkpoint of a few gigabytes to a network volume

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RuntimeImage:
    """The image of our own runtime, and the claim that it falls back to."""

    image: str
    pull_policy: str = "IfNotPresent"
    storage_claim: str = "windward-storage"


def labels_of(facts: RunFacts) -> dict[str, str]:
    """Returns the labels of a child and of its pods."""
    job = facts.job
    return {
        "app.kubernetes.io/managed-by": "windward",
        LABEL_JOB: job.metadata.name[:63].rstrip("-."),  # a label's value ends with a letter or digit
        LABEL_UID: job.metadata.uid,
        LABEL_ATTEMPT: str(facts.attempt),
        LABEL_REGION: facts.region.metadata.name,
        **({LABEL_LEVEL: facts.level} if facts.level else {}),
    }


def pod_template(facts: RunFacts, runtime: RuntimeImage) -> Body:
    """Returns the pod of one attempt: the user's template as it is, or our own runtime's, and to it the contract's
    environment, the region's node selector, the labels and the storage."""
    arguments = runtime_arguments(facts.job)
    template = deepcopy(facts.job.spec.work) if arguments is None else _runtime_template(arguments, runtime)
    _complete(template, facts, runtime)
    return template


def owner_reference(facts: RunFacts) -> Body:
    """Children go with their GreenJob, by the garbage collector: no finalizer is needed."""
    return {
        "apiVersion": API_VERSION,
        "kind": "GreenJob",
        "name": facts.job.metadata.name,
        "uid": facts.job.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _runtime_template(arguments: list[str], runtime: RuntimeImage) -> Body:
    """The pod of our own runtime: as restricted as Pod Security asks."""
    return {
        "spec": {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [
                {
                    "name": "worker",
                    "image": runtime.image,
                    "imagePullPolicy": runtime.pull_policy,
                    "command": ["windward-worker"],
                    # Under the supervisor: it hears a SIGTERM while libraries load, and meters the loading too.
                    "args": ["exec", "--", "windward-worker", *arguments],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a pod's own emptyDir
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }
    }


def _complete(template: Body, facts: RunFacts, runtime: RuntimeImage) -> None:
    """Add to a pod template what the contract needs; what the user set himself stays."""
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels_of(facts)}
    spec = template.setdefault("spec", {})
    spec["restartPolicy"] = "Never"
    spec.setdefault("automountServiceAccountToken", False)
    spec.setdefault("terminationGracePeriodSeconds", GRACE_S)
    if facts.region.spec.node_selector:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **facts.region.spec.node_selector}
    claim = _claim(facts, runtime)
    if claim is not None:
        volume = {"name": "windward-storage", "persistentVolumeClaim": {"claimName": claim}}
        spec["volumes"] = [*(spec.get("volumes") or []), volume]
    env = environment(facts, STORAGE_MOUNT if claim is not None else None)
    env[contract.ENV_REPORT_FILE] = "/dev/termination-log"
    for container in spec.get("containers") or []:
        own = {e.get("name") for e in container.get("env") or []}
        added = [{"name": k, "value": v} for k, v in sorted(env.items()) if k not in own]
        container["env"] = [*(container.get("env") or []), *added]
        if claim is not None:
            mount = {"name": "windward-storage", "mountPath": STORAGE_MOUNT}
            container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]


def _claim(facts: RunFacts, runtime: RuntimeImage) -> str | None:
    spec = facts.job.spec
    if spec.storage is not None:
        return spec.storage.claim_name
    return runtime.storage_claim if spec.work_kind.verb else None
