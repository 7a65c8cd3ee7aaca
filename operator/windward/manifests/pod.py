"""What children of every kind have: labels, an owner, and the pod that keeps the contract."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from windward.manifests.environment import RunFacts, environment, runtime_arguments
from windward_api import contract
from windward_api.meta import API_VERSION
from windward_api.workload import resources_of

LABEL_JOB = "windward.dev/job-name"
LABEL_UID = "windward.dev/job-uid"
LABEL_ATTEMPT = "windward.dev/attempt"
LABEL_REGION = "windward.dev/region"
LABEL_LEVEL = "windward.dev/power-level"
LABEL_WORK = "windward.dev/work"  # the kind of work: the field of the GreenJob's spec
PAUSED_AT = "windward.dev/paused-at"  # annotation of a child: when it was told to pause
STORAGE_MOUNT = "/windward/storage"
REPORT_FILE = "/dev/termination-log"
GRACE_S = 120  # a checkpoint of a few gigabytes to a network volume

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RuntimeImage:
    """The image of our own runtime, and the claim that it falls back to."""

    image: str
    pull_policy: str = "IfNotPresent"
    storage_claim: str = "windward-storage"


class NotInPod(ValueError):
    """The job cannot run as a pod; the sentence names the field and the way out."""


def labels_of(facts: RunFacts) -> dict[str, str]:
    """Returns the labels of a child and of its pods."""
    job = facts.job
    return {
        "app.kubernetes.io/managed-by": "windward",
        LABEL_JOB: job.metadata.name[:63].rstrip("-."),  # a label's value ends with a letter or digit
        LABEL_UID: job.metadata.uid,
        LABEL_ATTEMPT: str(facts.attempt),
        LABEL_REGION: facts.region.metadata.name,
        LABEL_WORK: job.spec.work_kind.field,
        **({LABEL_LEVEL: facts.level} if facts.level else {}),
    }


def pod_template(facts: RunFacts, runtime: RuntimeImage) -> Body:
    """Returns the pod of one attempt: the user's template as it is, or our own runtime's, and to it the contract's
    environment, the region's node selector, the labels and the storage.

    Raises:
        NotInPod: a file:// storage for our own runtime, whose pod keeps no files.
    """
    arguments, storage, work = runtime_arguments(facts.job), facts.job.spec.storage, facts.job.spec.work
    if arguments is not None and storage is not None and (storage.uri or "").startswith("file:"):
        raise NotInPod(
            f"spec.storage.uri: a pod of {facts.job.spec.work_kind.field} keeps no files: name s3://, gs:// or "
            "azblob://, or a volume in claimName"
        )
    template = deepcopy(work) if arguments is None else _runtime_template(arguments, resources_of(work), runtime)
    complete(template, facts, runtime)
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


def _runtime_template(arguments: list[str], resources: Body, runtime: RuntimeImage) -> Body:
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
                    "resources": resources,
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


def complete(template: Body, facts: RunFacts, runtime: RuntimeImage, pods: int = 1) -> None:
    """Adds to a pod template what the contract needs; what its author set stays.

    Args:
        pods: how many pods of the run draw its declared power together.
    """
    with_labels(template, facts)
    spec = template.setdefault("spec", {})
    spec["restartPolicy"] = "Never"
    spec.setdefault("automountServiceAccountToken", False)
    spec.setdefault("terminationGracePeriodSeconds", GRACE_S)
    if facts.region.spec.node_selector:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **facts.region.spec.node_selector}
    claim = claim_of(facts, runtime)
    if claim is not None:
        spec["volumes"] = [*(spec.get("volumes") or []), storage_volume(claim)]
    env = environment(facts, STORAGE_MOUNT if claim is not None else None, pods)
    env[contract.ENV_REPORT_FILE] = REPORT_FILE
    secret = facts.job.spec.storage.credentials_secret if facts.job.spec.storage is not None else None
    for container in spec.get("containers") or []:
        container["env"] = with_variables(container.get("env"), env)
        if secret is not None:
            container["envFrom"] = [*(container.get("envFrom") or []), {"secretRef": {"name": secret}}]
        if claim is not None:
            container["volumeMounts"] = [*(container.get("volumeMounts") or []), storage_mount()]


def with_labels(template: Body, facts: RunFacts) -> None:
    """Adds the labels of a run to a template of something that it consists of."""
    metadata = template["metadata"] = dict(template.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels_of(facts)}


def with_variables(given: list[Body] | None, variables: dict[str, str]) -> list[Body]:
    """Returns the variables of a container with those of the contract; the author's own win."""
    own = {e.get("name") for e in given or []}
    return [*(given or []), *({"name": k, "value": v} for k, v in sorted(variables.items()) if k not in own)]


def storage_volume(claim: str) -> Body:
    """Returns the volume of a pod that holds its storage."""
    return {"name": "windward-storage", "persistentVolumeClaim": {"claimName": claim}}


def storage_mount() -> Body:
    """Returns where a container has its storage."""
    return {"name": "windward-storage", "mountPath": STORAGE_MOUNT}


def claim_of(facts: RunFacts, runtime: RuntimeImage) -> str | None:
    """Returns the claim that holds the storage of a run; None: it has none."""
    spec = facts.job.spec
    if spec.storage is not None:
        return spec.storage.claim_name  # None where it names an object store
    return runtime.storage_claim if spec.work_kind.verb else None
