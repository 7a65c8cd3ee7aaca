"""A run as a local process: the same environment, the same contract, no image."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from windward.manifests.environment import RunFacts, environment, runtime_arguments
from windward_api.greenjob import GreenJob


class NotLocal(ValueError):
    """The job cannot run as a local process; the sentence names the field and the way out."""


TRUSTED = "windward.dev/trusted"  # annotation: the command is the user's own word, not a file's


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A command line and its environment, under the contract's supervisor.

    Attributes:
        trusted: it may have the whole environment of the user: their own command, or our own runtime.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str | None = None
    trusted: bool = False


def render_process(facts: RunFacts, storage_root: str) -> ProcessSpec:
    """The process of one attempt.

    Raises:
        NotLocal: credentials from a Secret; else see `local_command`.
    """
    if facts.job.spec.storage is not None and facts.job.spec.storage.credentials_secret is not None:
        raise NotLocal(
            "spec.storage.credentialsSecret: there is no cluster to read it from: remove it and set the credentials in "
            "your own environment"
        )
    arguments = runtime_arguments(facts.job)
    env = environment(facts, storage_root)
    cwd = None
    if arguments is not None:
        command = [sys.executable, "-P", "-m", "windward_worker", *arguments]
    else:
        command, own, cwd = local_command(facts.job)
        env = {**env, **own}
    supervised = (sys.executable, "-P", "-m", "windward_worker", "exec", "--", *command)
    trusted = arguments is not None or facts.job.metadata.annotations.get(TRUSTED) == "true"
    return ProcessSpec(facts.name, supervised, env, cwd, trusted)


def local_command(job: GreenJob) -> tuple[list[str], dict[str, str], str | None]:
    """Command, own environment and working directory of the template's first container: a local run is one process.

    Raises:
        NotLocal: the template needs what a local process has not: a command that is in its image, which is not used
            here, initContainers, or values from a cluster.
    """
    if job.spec.work_kind.is_group:
        raise NotLocal(f"spec.{job.spec.work_kind.field}: a local run is one process: apply it to a cluster")
    pod = (job.spec.template or {}).get("spec") or {}
    field = "spec.template.spec.containers"
    if not isinstance(pod, dict) or not isinstance(pod.get("containers") or [], list):
        raise NotLocal(f"{field}: must be a list: write one container with its command")
    containers = pod.get("containers") or [{}]
    if pod.get("initContainers"):
        raise NotLocal("spec.template.spec.initContainers: a local run is one process: leave them out")
    first = containers[0] if isinstance(containers[0], dict) else {}
    command, arguments = first.get("command") or [], first.get("args") or []
    if not isinstance(command, list) or not isinstance(arguments, list):
        raise NotLocal(f"{field}[0].command: must be a list of words, as in [python3, train.py]")
    if not command:
        raise NotLocal(f"{field}[0].command: a local run uses no image, so the command must be named here")
    cwd = first.get("workingDir")
    return [str(x) for x in [*command, *arguments]], _own_environment(first, field), str(cwd) if cwd else None


def _own_environment(container: Mapping[str, Any], field: str) -> dict[str, str]:
    if container.get("envFrom"):
        raise NotLocal(f"{field}[0].envFrom: there is no cluster to read it from: write the values under env")
    own: dict[str, str] = {}
    for e in container.get("env") or []:
        if not isinstance(e, dict) or "name" not in e:
            raise NotLocal(f"{field}[0].env: each needs a name and a value")
        if "valueFrom" in e:
            refusal = f"{field}[0].env {e['name']}: there is no cluster to read valueFrom from: write a value"
            raise NotLocal(refusal)
        own[str(e["name"])] = str(e.get("value", ""))
    return own
