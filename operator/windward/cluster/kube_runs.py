"""Derives the runs of one GreenJob from its children and pods, as JSON. Pure; each run is read by its engine.

A child belongs to a GreenJob by namespace, controller ownerReference and deterministic name; a pod by the uid of its
child. Labels only select what is listed: anybody may copy them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from windward.cluster.engines.port import Attempt, Body, Engine
from windward.cluster.kube_pods import Controllers, ancestor_uid, controller_of, current_pod, moment
from windward.cluster.pod_memory import Ends
from windward.domain.run import Phase, Run, run_name
from windward.lifecycle.bounds import within_bounds
from windward.lifecycle.work import most_power_w
from windward.manifests.pod import LABEL_ATTEMPT, LABEL_LEVEL, LABEL_REGION
from windward_api.greenjob import GreenJob
from windward_api.greenjob_status import RunStatus


@dataclass(frozen=True, slots=True)
class _Context:
    """The inputs that all runs of one job share.

    Attributes:
        seen: uid of a child -> ends of its pods, as seen by a watch.
    """

    job: GreenJob
    seen: Ends
    now: datetime
    most_power_w: float


@dataclass(frozen=True, slots=True)
class _Shown:
    """The child and the pods of one attempt in the lists, with their engine."""

    engine: Engine
    uid: str
    child: Body | None = None
    pods: tuple[Body, ...] = ()


def runs_of(
    job: GreenJob,
    children: Mapping[Engine, Iterable[Body]],
    pods: Iterable[Body],
    seen: Ends,
    now: datetime,
    demand: Mapping[str, float] | None = None,
    controllers: Controllers | None = None,
) -> tuple[Run, ...]:
    """Returns the runs of a GreenJob, by attempt.

    Args:
        children: objects with its label, by engine, with a key for each engine; those of other owners are left out.
        pods: pods with its label, likewise.
        seen: uid of a child -> ends of its pods, as seen by a watch.
        demand: what one run holds of a region; None: what its spec asks.
        controllers: of objects that stand between a child and its pods; None: none does.
    """
    context = _Context(job, seen, now, most_power_w(job.spec, demand))
    kept = {r.attempt: r for r in job.status.runs}
    by_uid = {r.uid: r.attempt for r in kept.values() if r.uid}
    shown = _shown(job, children, pods, by_uid, controllers or {})
    attempts = sorted({*shown, *kept} - {0})
    return tuple(_run(context, n, shown.get(n), kept.get(n)) for n in attempts)


def _shown(
    job: GreenJob,
    children: Mapping[Engine, Iterable[Body]],
    pods: Iterable[Body],
    attempt_by_uid: dict[str, int],
    controllers: Controllers,
) -> dict[int, _Shown]:
    """Returns the child, the pods, or both, of each attempt.

    Args:
        attempt_by_uid: attempts of children in the status; such a child may be gone while its pod is not.
    """
    ours = ((e, c) for e, listed in children.items() for c in listed if is_child(job, c))
    shown = {attempt_of(c): _Shown(e, str(c["metadata"]["uid"]), c) for e, c in ours}
    attempt_by_uid |= {s.uid: n for n, s in shown.items()}
    for pod in pods:
        if _namespace(pod) != job.metadata.namespace:
            continue
        for engine in children:
            uid = ancestor_uid(pod, engine.pod_owners, controllers)
            n = attempt_by_uid.get(uid)
            if n is not None:
                before = shown.get(n) or _Shown(engine, uid)
                shown[n] = _Shown(before.engine, uid, before.child, (*before.pods, pod))
    return shown


def is_child(job: GreenJob, child: Body) -> bool:
    """Returns whether an object is a run of `job`: by namespace, controller (kind and uid) and deterministic name."""
    meta = child["metadata"]
    name = run_name(job.metadata.name, job.metadata.uid, attempt_of(child))
    owned = controller_of(meta) == ("GreenJob", job.metadata.uid)
    return owned and _namespace(child) == job.metadata.namespace and meta.get("name") == name


def _namespace(body: Body) -> str:
    return str(body["metadata"].get("namespace", ""))


def attempt_of(child: Body) -> int:
    """Returns the attempt in the label of a child; 0 if it is not a number."""
    text = str((child["metadata"].get("labels") or {}).get(LABEL_ATTEMPT, ""))
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _run(context: _Context, attempt: int, shown: _Shown | None, kept: RunStatus | None) -> Run:
    witness = (shown.child or current_pod(shown.pods)) if shown is not None else None
    if shown is None or witness is None:
        assert kept is not None
        phase = Phase(kept.phase)
        return _kept(kept, Phase.LOST if phase.live else phase)
    labels = witness["metadata"].get("labels") or {}
    meta = context.job.metadata
    base = Run(
        run_name(meta.name, meta.uid, attempt), attempt, str(labels.get(LABEL_REGION, "")), Phase.STARTING,
        level=str(labels.get(LABEL_LEVEL, "")), uid=shown.uid,
    )  # fmt: skip
    seen = tuple(context.seen.get(shown.uid, ()))
    run = shown.engine.observe(Attempt(base, shown.child, shown.pods, seen, kept, context.now))
    if run is None:
        return _kept(kept, Phase(kept.phase)) if kept is not None else base
    created = moment(witness["metadata"].get("creationTimestamp")) or meta.creation_timestamp or context.now
    return within_bounds(run, created, context.now, context.most_power_w)


def _kept(kept: RunStatus, phase: Phase) -> Run:
    return Run(
        kept.name, kept.attempt, kept.region, phase, started_at=kept.started_at, finished_at=kept.finished_at,
        exit_code=kept.exit_code, message=kept.message, pause_requested=phase is Phase.PAUSED,
        level=kept.power_level, uid=kept.uid,
    )  # fmt: skip
