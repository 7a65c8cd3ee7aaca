"""Keeps how pods ended: what is paused loses its pods soon after, and only a watch is sure to see their last words."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from windward.cluster.kube_pods import Controllers, PodEnd, controller_of, keep_end, pod_end

Body = Mapping[str, Any]
Ends = Mapping[str, Sequence[PodEnd]]  # uid of an object -> how the pods below it ended, in the order seen


@dataclass
class PodMemory:
    """Ends of pods and what is above them, as long as an object above a pod, or the pod, is listed. Safe for several
    threads."""

    _ends: dict[str, dict[str, PodEnd]] = field(default_factory=dict)  # by uid of the controller, by uid of the pod
    _controllers: dict[str, tuple[str, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def remember(self, pods: Iterable[Body]) -> None:
        """Keeps the ends of those that ended."""
        for pod in pods:
            _, uid = controller_of(pod["metadata"])
            end = pod_end(pod) if uid else None
            if end is not None:
                with self._lock:
                    keep_end(self._ends.setdefault(uid, {}), end)

    def note(self, objects: Iterable[Body]) -> Controllers:
        """Notes the controllers of all objects that are listed; returns all that are known."""
        with self._lock:
            self._controllers |= {str(o["metadata"]["uid"]): controller_of(o["metadata"]) for o in objects}
            return dict(self._controllers)

    def ends(self) -> Ends:
        """Returns what is kept, for each object from the pods' own controllers up."""
        out: dict[str, list[PodEnd]] = {}
        with self._lock:
            for uid, ends in self._ends.items():
                for above in self._chain(uid):
                    out.setdefault(above, []).extend(ends.values())
        return out

    def forget(self, objects: Iterable[Body], pods: Iterable[Body]) -> None:
        """Drops what belongs to no object and to no pod that is listed. A Job may be gone while its pods end; by what
        was above it they are still known."""
        listed = {str(o["metadata"]["uid"]) for o in objects}
        with self._lock:
            above = {uid for pod in pods for uid in self._chain(controller_of(pod["metadata"])[1])}
            for known in (self._ends, self._controllers):
                for uid in [u for u in known if u not in above and listed.isdisjoint(self._chain(u))]:
                    del known[uid]

    def _chain(self, uid: str) -> list[str]:
        """An object and those that control it, from below."""
        chain = []
        while uid and uid not in chain:
            chain.append(uid)
            uid = self._controllers.get(uid, ("", ""))[1]
        return chain
