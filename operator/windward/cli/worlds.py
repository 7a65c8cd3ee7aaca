"""Reading GreenJobs from this machine or from a cluster, for the commands that look and the ones that change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from windward.cli.errors import CliError, Exit
from windward.cluster.parse import read_job
from windward.cluster.port import BadObject, ClusterError
from windward_api.greenjob import GreenJob

PATH = "/apis/windward.dev/v1alpha1"


@dataclass(frozen=True, slots=True)
class Told:
    """One event."""

    at: str
    reason: str
    message: str
    warning: bool


class Jobs(Protocol):
    """GreenJobs somewhere."""

    def all(self, namespace: str) -> list[GreenJob | BadObject]: ...

    def get(self, namespace: str, name: str) -> GreenJob | BadObject | None: ...

    def events(self, job: GreenJob) -> list[Told]: ...

    def change(self, namespace: str, name: str, patch: Mapping[str, Any]) -> bool: ...


class LocalJobs:
    """Those of this machine."""

    def __init__(self) -> None:
        from windward.cluster.store import Store
        from windward.service.local import state_home

        self._store = Store(state_home() / "local.db")

    def all(self, namespace: str) -> list[GreenJob | BadObject]:
        bodies = self._store.all("GreenJob")
        return [read_job(b) for b in bodies if namespace in ("", b["metadata"]["namespace"])]

    def get(self, namespace: str, name: str) -> GreenJob | BadObject | None:
        body = self._store.get("GreenJob", namespace, name)
        return read_job(body) if body is not None else None

    def events(self, job: GreenJob) -> list[Told]:
        rows = self._store.events(job.metadata.uid)
        return [Told(f"{at:%m-%d %H:%MZ}", reason, message, warning) for at, warning, reason, message in rows]

    def change(self, namespace: str, name: str, patch: Mapping[str, Any]) -> bool:
        annotations = (patch.get("metadata") or {}).get("annotations")
        done = self._store.update("GreenJob", namespace, name, annotations=annotations, spec=patch.get("spec"))
        return done is not None


class RemoteJobs:
    """Those of the cluster that the kubeconfig names."""

    def __init__(self) -> None:
        try:
            from windward.cluster.kube_api import Api, connect
        except ImportError as e:
            fix = "pip install 'windward[operator]', or use kubectl"
            raise CliError("the Kubernetes client is not installed", fix=fix) from e
        try:
            self.api = Api(connect())
        except ClusterError as e:
            fix = "set KUBECONFIG, or use --local"
            raise CliError("no cluster can be reached", cause=str(e), fix=fix, code=Exit.UNREACHABLE) from e

    def all(self, namespace: str) -> list[GreenJob | BadObject]:
        place = f"/namespaces/{namespace}" if namespace else ""
        return [read_job(b) for b in self._asked(lambda: self.api.items(f"{PATH}{place}/greenjobs"))]

    def get(self, namespace: str, name: str) -> GreenJob | BadObject | None:
        from windward.cluster.kube_api import NotFound

        try:
            return read_job(self._asked(lambda: self.api.get(f"{PATH}/namespaces/{namespace}/greenjobs/{name}")))
        except NotFound:
            return None

    def events(self, job: GreenJob) -> list[Told]:
        path = f"/api/v1/namespaces/{job.metadata.namespace}/events"
        items = self._asked(lambda: self.api.items(path, fieldSelector=f"involvedObject.uid={job.metadata.uid}"))
        items.sort(key=lambda e: str(e.get("firstTimestamp") or ""))
        return [Told(str(e["firstTimestamp"]), e["reason"], e["message"], e["type"] == "Warning") for e in items]

    def change(self, namespace: str, name: str, patch: Mapping[str, Any]) -> bool:
        from windward.cluster.kube_api import NotFound

        try:
            self._asked(lambda: self.api.patch(f"{PATH}/namespaces/{namespace}/greenjobs/{name}", dict(patch)))
        except NotFound:
            return False
        return True

    @staticmethod
    def _asked(call: Any) -> Any:
        """A call whose trouble is told as an error for people; `NotFound` is the caller's."""
        from windward.cluster.kube_api import NotFound

        try:
            return call()
        except NotFound:
            raise
        except ClusterError as e:
            raise CliError("the cluster refused or did not answer", cause=str(e), code=Exit.UNREACHABLE) from e


def jobs_of(local: bool) -> Jobs:
    """Where the commands look."""
    return LocalJobs() if local else RemoteJobs()


def one(jobs: Jobs, namespace: str, name: str) -> GreenJob | BadObject:
    """The job called `name`; `namespace/name` is understood too.

    Raises:
        CliError: there is none.
    """
    if "/" in name:
        namespace, name = name.split("/", 1)
    found = jobs.get(namespace, name)
    if found is None:
        fix = "windward list shows what there is; -n names another namespace"
        raise CliError(f"there is no GreenJob {namespace}/{name}", fix=fix, code=Exit.NOT_FOUND)
    return found
