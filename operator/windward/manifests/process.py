"""A run as a local process: the same environment, the same contract, no image."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from windward.manifests.environment import RunFacts, environment, runtime_arguments


class NotLocal(ValueError):
    """The job cannot run as a local process; the sentence names the field and the way out."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A command line and its environment, under the contract's supervisor."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str | None = None


def render_process(facts: RunFacts, storage_root: str) -> ProcessSpec:
    """The process of one attempt.

    Raises:
        NotLocal: the template's container names no command (that is in its image, which is not used here).
    """
    arguments = runtime_arguments(facts.job)
    env = environment(facts, storage_root)
    cwd = None
    if arguments is not None:
        command = [sys.executable, "-P", "-m", "windward_worker", *arguments]
    else:
        command, own, cwd = _container(facts)
        env = {**env, **own}
    supervised = (sys.executable, "-P", "-m", "windward_worker", "exec", "--", *command)
    return ProcessSpec(facts.name, supervised, env, cwd)


def _container(facts: RunFacts) -> tuple[list[str], dict[str, str], str | None]:
    """Command, own environment and working directory of the template's first container."""
    containers = ((facts.job.spec.template or {}).get("spec") or {}).get("containers") or []
    first = containers[0] if containers else {}
    command = [str(x) for x in [*(first.get("command") or []), *(first.get("args") or [])]]
    if not first.get("command"):
        raise NotLocal(
            "spec.template.spec.containers[0].command: a local run uses no image, so the command must be named here"
        )
    env = {str(e["name"]): str(e["value"]) for e in first.get("env") or [] if "value" in e}
    return command, env, first.get("workingDir")
