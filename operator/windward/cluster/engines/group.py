"""What the engines for groups of pods share: an object with `spec.suspend` and conditions, and pods below it.

A pause is one write: `suspend`, with the annotation that says that it was Windward. Kubernetes does not count a
container that ends with 0 while it is being suspended; what succeeded before is in the object's conditions and counts,
which outlive the pods (docs/decisions/0020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from windward.cluster.engines.port import Attempt, Body, Requests, Resource, Rights
from windward.cluster.kube_pods import moment
from windward.cluster.pod_group import (
    PodGroup,
    failed,
    going_on,
    group_of,
    paused,
    succeeded,
    suspended_at,
    true_condition,
)
from windward.domain.run import Phase, Run, Trouble, TroubleReason, phase_of_exit
from windward.lifecycle.work import demand_of
from windward.manifests import RunFacts
from windward.manifests.pod import PAUSED_AT, RuntimeImage
from windward_api.contract import EXIT_PAUSED
from windward_api.greenjob import GreenJob, GreenJobSpec
from windward_api.scalars import format_time

NO_POD_AFTER = timedelta(seconds=30)


@dataclass(frozen=True)
class GroupEngine:
    """See `Engine`.

    Attributes:
        pod_owners: see `Engine`.
        complete: type of the condition that is True once all is done; `Failed` is the other end.
        manifest: renders one attempt.
        expected_pods: how many pods of an object are to end well before all is done.
        done: whether the counts of an object say that all is done.
        active: whether an object counts pods that may still run.
    """

    resource: Resource
    pod_owners: tuple[str, ...]
    complete: str
    manifest: Callable[[RunFacts, RuntimeImage], dict[str, Any]]
    expected_pods: Callable[[Body], int]
    done: Callable[[Body], bool]
    active: Callable[[Body], bool]

    @property
    def rights(self) -> tuple[Rights, ...]:
        return (Rights(self.resource.group, self.resource.plural, ("create", "get", "list", "patch")),)

    def accepts(self, job: GreenJob) -> bool:
        kind = job.spec.work_kind
        return kind.is_group and kind.child == self.resource.kind

    def demand(self, spec: GreenJobSpec) -> Mapping[str, float]:
        return demand_of(spec)

    def render(self, facts: RunFacts, runtime: RuntimeImage) -> dict[str, Any]:
        return self.manifest(facts, runtime)

    def observe(self, attempt: Attempt) -> Run | None:
        child, kept = attempt.child, attempt.kept
        expected = self.expected_pods(child) if child is not None else len(attempt.pods)
        group = group_of(attempt.pods, attempt.seen, expected, kept.started_at if kept else None, attempt.now)
        end = true_condition(child, self.complete, "Failed") if child is not None else None
        stopping = child is None or _is_stopping(child)
        run = replace(attempt.run, pause_requested=stopping)
        if group.living:
            return _with_pods(run, group, over=stopping or end is not None)
        if child is not None and (end is not None or self.done(child)):
            return _ended(run, group, child, end)
        if kept is not None and not Phase(kept.phase).live:
            return None
        if not stopping:
            return going_on(run, group, None if group.started_at is not None else self._trouble(attempt))
        if child is None or self._is_quiet(child):
            return _paused(run, group, child or {}, attempt)
        return replace(run, phase=Phase.STOPPING, started_at=group.started_at)

    def pause(self, api: Requests, job: GreenJob, child: Body, now: Any) -> None:
        """Suspends it; its controllers end its pods with their grace period."""
        meta = child["metadata"]
        noted = PAUSED_AT in (meta.get("annotations") or {})
        if noted and child["spec"].get("suspend"):
            return
        annotations = {} if noted else {PAUSED_AT: format_time(now)}
        body = {"metadata": {"annotations": annotations}, "spec": {"suspend": True}}
        api.patch(self.resource.path(job.metadata.namespace, meta["name"]), body)

    def _is_quiet(self, child: Body) -> bool:
        """Whether its controller will make no pod of it any more, and counts none."""
        noticed = true_condition(child, "Suspended") is not None or "deletionTimestamp" in child["metadata"]
        return noticed and not self.active(child)

    def _trouble(self, attempt: Attempt) -> Trouble | None:
        """It has no pod, long after it was created."""
        child = attempt.child or {"metadata": {}}
        created = moment(child["metadata"].get("creationTimestamp"))
        if created is None or attempt.now < created + NO_POD_AFTER:
            return None
        kind, name = self.resource.kind, attempt.run.name
        command = f"kubectl -n {child['metadata'].get('namespace', '')} describe {kind.lower()} {name}"
        fix = f"its controller, a quota or an admission policy may say why: {command}"
        return Trouble(TroubleReason.POD_MISSING, f"{kind} {name} has no pod", fix, created)


def _is_stopping(child: Body) -> bool:
    return bool((child.get("spec") or {}).get("suspend")) or "deletionTimestamp" in child["metadata"]


def _with_pods(run: Run, group: PodGroup, *, over: bool) -> Run:
    """A run with pods that may still compute; `over`: they are being ended."""
    on = going_on(run, group, group.trouble)
    return replace(on, phase=Phase.STOPPING) if over else on


def _ended(run: Run, group: PodGroup, child: Body, end: Body | None) -> Run:
    """A run whose object says that it is over, by a condition or by its counts."""
    if end is None or end.get("type") != "Failed":
        at = moment(end.get("lastTransitionTime")) if end is not None else suspended_at(child)
        return succeeded(run, group, at or group.now)
    over = failed(run, group, end)
    if group.failures and all(e.disrupted for e in group.failures):
        return replace(over, phase=Phase.LOST)
    codes = {e.code for e in group.failures}
    return replace(over, phase=phase_of_exit(EXIT_PAUSED)) if codes == {EXIT_PAUSED} else over


def _paused(run: Run, group: PodGroup, child: Body, attempt: Attempt) -> Run:
    at = suspended_at(child) or (attempt.kept.finished_at if attempt.kept is not None else None) or attempt.now
    if group.started_at is None:
        why = "never started"
    elif not group.ends:
        why = "ended before it could report"
    elif group.pause_code in (None, EXIT_PAUSED):
        why = group.report.message if group.report is not None else ""
    else:
        why = f"a pod ended with {group.pause_code} instead of {EXIT_PAUSED}: it does not honour the pause contract"
    return paused(run, group, at, why, pause_requested=True)
