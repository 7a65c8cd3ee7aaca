"""The port to the kinds of workload that run a GreenJob on Kubernetes, one engine each, like Kueue's `GenericJob`.

An engine renders one attempt as one object, reads a run from such an object and its pods, and pauses it. It has no
method to resume, since a later attempt is another object, and none to delete: an object is owned by its GreenJob, and
the garbage collector deletes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from windward.cluster.kube_pods import PodEnd
from windward.domain.run import Run
from windward.manifests import RunFacts
from windward.manifests.pod import RuntimeImage
from windward_api.greenjob import GreenJob, GreenJobSpec
from windward_api.greenjob_status import RunStatus

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """The API resource of an engine's objects: namespaced, not in the core group."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    @property
    def root(self) -> str:
        """Path of the group, to list in all namespaces."""
        return f"/apis/{self.api_version}"

    def path(self, namespace: str, name: str = "") -> str:
        """Returns the path of a namespace's objects, or of one of them."""
        return f"{self.root}/namespaces/{namespace}/{self.plural}" + (f"/{name}" if name else "")


@dataclass(frozen=True, slots=True)
class Rights:
    """One rule of the operator's Role."""

    group: str
    resource: str
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The observed state of one attempt whose object or pod exists.

    Attributes:
        run: name, attempt, region, level and uid of the run, in phase Starting; `observe` adds to it.
        child: its object; None: deleted, while a pod of it remains.
        pods: its pods.
        seen: how pods of it ended, as seen by a watch, in that order; the pods may be gone.
        kept: its entry in the GreenJob's status.
    """

    run: Run
    child: Body | None
    pods: tuple[Body, ...]
    seen: tuple[PodEnd, ...]
    kept: RunStatus | None
    now: datetime


class Requests(Protocol):
    """Requests to the API server by path; they raise the errors of `kube_api`."""

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Returns all items of a list."""
        ...

    def patch(self, path: str, body: Any) -> dict[str, Any]:
        """Merges `body` into an object."""
        ...

    def delete(self, path: str, uid: str = "", **query: str) -> dict[str, Any]:
        """Deletes an object; with `uid`, only if it still is that one."""
        ...


class Engine(Protocol):
    """A kind of workload that can run a GreenJob. An engine keeps no state; all methods but `pause` are pure."""

    @property
    def resource(self) -> Resource:
        """The API resource of its objects."""
        ...

    @property
    def pod_owners(self) -> tuple[str, ...]:
        """Kinds of the objects from a pod's controller up to its own, such as Job and JobSet. A pod belongs to a run by
        such a chain of owner references; what stands between is listed by the labels of the run."""
        ...

    @property
    def rights(self) -> tuple[Rights, ...]:
        """The rules that the operator's Role needs for it, beyond listing and watching pods; the chart grants these."""
        ...

    def accepts(self, job: GreenJob) -> bool:
        """Returns whether it runs this GreenJob. The first registered engine that does renders the next attempt; a run
        is observed through the engine that rendered it."""
        ...

    def demand(self, spec: GreenJobSpec) -> Mapping[str, float]:
        """Returns what one run holds of a region: `pods`, and the requests of all its pods together."""
        ...

    def render(self, facts: RunFacts, runtime: RuntimeImage) -> dict[str, Any]:
        """Returns the object of one attempt, the same for the same arguments.

        It has the name `facts.name`, the namespace of its GreenJob, `labels_of(facts)`, and `owner_reference(facts)` as
        its controller; its pods have the same labels. By these it is listed, recognised and deleted.
        """
        ...

    def observe(self, attempt: Attempt) -> Run | None:
        """Returns the run as its object and pods show it; None if `attempt.kept` says more.

        A run that may still compute must be returned in a live phase: otherwise another one would start beside it.
        """
        ...

    def pause(self, api: Requests, job: GreenJob, child: Body, now: datetime) -> None:
        """Asks a run to pause: SIGTERM to its containers, their grace period, then SIGKILL. Returns at once.

        Called again until the run has ended, so it may be interrupted at any point. The object must still show how the
        containers ended, success above all, when its pods are gone (docs/decisions/0014).

        Raises:
            NotFound: the object, or a pod, is gone already.
            ClusterError: any other answer that is no success.
        """
        ...


def engine_of(engines: Iterable[Engine], job: GreenJob) -> Engine | None:
    """Returns the engine that runs the next attempt of a GreenJob; None where no engine accepts it."""
    return next((e for e in engines if e.accepts(job)), None)
