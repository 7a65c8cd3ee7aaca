"""Reading GreenJobs from this machine or from a cluster, for the commands that look and the ones that change."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from windward.cli.errors import CliError, Exit, usage_error
from windward.cli.manifest_files import check_name
from windward.cluster.parse import read_job
from windward.cluster.port import BadObject, ClusterError, NotFound
from windward.reports.shown import shown
from windward_api.greenjob import GreenJob
from windward_api.managed import MANAGED_KINDS, PREFIX

PATH = "/apis/windward.dev/v1alpha1"
_KIND_WORDS = frozenset(kind.kind.lower() for kind in MANAGED_KINDS)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command looks: this machine, or a cluster by its kubeconfig and context."""

    local: bool = True
    namespace: str = ""
    context: str = ""
    kubeconfig: Path | None = None

    @classmethod
    def chosen(cls, local: bool, namespace: str, context: str, kubeconfig: Path | None) -> Target:
        """What the options ask for.

        Raises:
            CliError: they contradict each other, or the namespace is none.
        """
        if local and (context or kubeconfig is not None):
            option = "--context" if context else "--kubeconfig"
            raise usage_error(f"{option} names a cluster", fix=f"add --cluster, or leave {option} out")
        if namespace:
            _checked("--namespace", namespace)
        return cls(local, namespace, context, kubeconfig)

    def command(self, verb: str, namespace: str, name: str) -> str:
        """A command about one job here, as it is to be typed."""
        words = ["windward", verb, name]
        if namespace != "default":
            words += ["-n", namespace]
        if not self.local:
            words.append("--cluster")
        if self.context:
            words += ["--context", self.context]
        if self.kubeconfig is not None:
            words += ["--kubeconfig", str(self.kubeconfig)]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event."""

    at: str
    reason: str
    message: str
    warning: bool


@dataclass(frozen=True, slots=True)
class Driver:
    """Whether anybody moves a job on, and how to if not.

    Attributes:
        driven: somebody does.
        command: goes on with it; '' where nobody knows.
        live: a run goes on by itself.
    """

    driven: bool = True
    command: str = ""
    live: bool = False


class Jobs(Protocol):
    """GreenJobs somewhere."""

    def all(self, namespace: str) -> list[GreenJob | BadObject]: ...

    def get(self, namespace: str, name: str) -> GreenJob | BadObject | None: ...

    def events(self, job: GreenJob) -> list[JobEvent]: ...

    def change(self, namespace: str, name: str, patch: Mapping[str, Any]) -> bool: ...

    def delete(self, namespace: str, name: str) -> bool: ...

    def namespace(self) -> str: ...

    def driver(self, job: GreenJob) -> Driver: ...

    def rehearsed(self, job: GreenJob) -> bool: ...


class LocalJobs:
    """Those of this machine; where nothing ran yet, nothing is written."""

    def __init__(self) -> None:
        from windward.cluster.locks import Locks
        from windward.cluster.store import Store
        from windward.service.local import state_home

        self._home = state_home()
        path = self._home / "local.db"
        self._store = Store(path if path.exists() else None)
        self._locks = Locks(self._home / "locks")

    def namespace(self) -> str:
        return "default"

    def all(self, namespace: str) -> list[GreenJob | BadObject]:
        bodies = self._store.all("GreenJob")
        return [read_job(b) for b in bodies if namespace in ("", b["metadata"]["namespace"])]

    def get(self, namespace: str, name: str) -> GreenJob | BadObject | None:
        body = self._store.get("GreenJob", namespace, name)
        return read_job(body) if body is not None else None

    def events(self, job: GreenJob) -> list[JobEvent]:
        rows = self._store.events(job.metadata.uid)
        return [JobEvent(f"{at:%m-%d %H:%MZ}", reason, message, warning) for at, warning, reason, message in rows]

    def change(self, namespace: str, name: str, patch: Mapping[str, Any]) -> bool:
        annotations = (patch.get("metadata") or {}).get("annotations")
        done = self._store.update("GreenJob", namespace, name, annotations=annotations, spec=patch.get("spec"))
        return done is not None

    def delete(self, namespace: str, name: str) -> bool:
        from windward.cluster.local import LocalCluster
        from windward.service.clock import SystemClock

        if self._store.get("GreenJob", namespace, name) is None:
            return False
        clock = SystemClock()
        LocalCluster(self._store, self._home, clock, clock).delete_job(namespace, name)
        return True

    def driver(self, job: GreenJob) -> Driver:
        from windward.cluster.supervisors import is_alive
        from windward.service.submissions import command_to_resume

        uid = job.metadata.uid
        if self._locks.driven(uid):
            return Driver()
        live = any(is_alive(row) for row in self._store.runs.of_job(uid))
        return Driver(False, command_to_resume(job.metadata.annotations, Path.cwd()), live)

    def rehearsed(self, job: GreenJob) -> bool:
        """Whether its time is another than the real one."""
        from windward.cluster.store import is_rehearsal

        saved = self._store.clock(job.metadata.uid)
        return saved is not None and is_rehearsal(*saved)


class RemoteJobs:
    """Those of the cluster that the kubeconfig names."""

    def __init__(self, target: Target) -> None:
        try:
            from windward.cluster.kube_api import Api, connect
        except ImportError as e:
            fix = "pip install 'windward[operator]', or use kubectl"
            raise CliError("the Kubernetes client is not installed", fix=fix) from e
        self._target = target
        kubeconfig = str(target.kubeconfig) if target.kubeconfig is not None else None
        try:
            self.api = Api(connect(kubeconfig, target.context or None))
        except ClusterError as e:
            fix = "set KUBECONFIG, name --kubeconfig and --context, or use --local"
            raise CliError("no cluster can be reached", cause=str(e), fix=fix, code=Exit.UNREACHABLE) from e
        except Exception as e:  # a kubeconfig is foreign text, and its reader raises what it likes
            fix = "correct the kubeconfig; kubectl config view shows it"
            raise CliError(
                "the kubeconfig cannot be used", cause=f"its reader says: {e}", fix=fix, code=Exit.UNREACHABLE
            ) from e

    def namespace(self) -> str:
        """The namespace of the context; else `default`."""
        from kubernetes import config

        try:
            path = str(self._target.kubeconfig) if self._target.kubeconfig is not None else None
            contexts, active = config.list_kube_config_contexts(path)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError):
            return "default"
        wanted = self._target.context
        context = next((c for c in contexts if c["name"] == wanted), None) if wanted else active
        return str(((context or {}).get("context") or {}).get("namespace") or "default")

    def all(self, namespace: str) -> list[GreenJob | BadObject]:
        from windward.cluster.port import NotFound

        place = f"/namespaces/{namespace}" if namespace else ""
        try:
            jobs = [read_job(b) for b in self.request(lambda: self.api.items(f"{PATH}{place}/greenjobs"))]
        except NotFound as e:
            fix = "install the chart: helm install windward charts/windward"
            raise CliError("the cluster knows no GreenJobs", cause=str(e), fix=fix, code=Exit.NOT_FOUND) from e
        try:
            return [*jobs, *self._managed(namespace)]
        except ClusterError as e:  # who may list GreenJobs may not list all else
            sys.stderr.write(shown(f"managed workloads are not shown: {e}") + "\n")
            return jobs

    def _managed(self, namespace: str) -> list[GreenJob | BadObject]:
        """Managed workloads of a namespace; of all where none is named."""
        from windward.cluster.managed_reader import ManagedReader
        from windward.service.clock import SystemClock

        snapshot = ManagedReader(self.api, SystemClock(), (namespace,) if namespace else ()).snapshot()
        return [*(o.job for o in snapshot.jobs), *snapshot.bad]

    def get(self, namespace: str, name: str) -> GreenJob | BadObject | None:
        from windward.cluster.port import NotFound

        try:
            if "/" in name:
                jobs = self.request(lambda: self._managed(namespace))
                return next((j for j in jobs if j.key == f"{namespace}/{name}"), None)
            return read_job(self.request(lambda: self.api.get(f"{PATH}/namespaces/{namespace}/greenjobs/{name}")))
        except NotFound:
            return None

    def events(self, job: GreenJob) -> list[JobEvent]:
        path = f"/api/v1/namespaces/{job.metadata.namespace}/events"
        items = self.request(lambda: self.api.items(path, fieldSelector=f"involvedObject.uid={job.metadata.uid}"))
        items.sort(key=lambda e: _at(e))
        return [
            JobEvent(_at(e), str(e.get("reason")), str(e.get("message")), e.get("type") == "Warning") for e in items
        ]

    def change(self, namespace: str, name: str, patch: Mapping[str, Any]) -> bool:
        if "/" in name:
            return self._done(lambda: self.api.patch(_managed_path(namespace, name), _in_annotations(patch)))
        return self._done(lambda: self.api.patch(f"{PATH}/namespaces/{namespace}/greenjobs/{name}", dict(patch)))

    def delete(self, namespace: str, name: str) -> bool:
        if "/" in name:
            fix = f"kubectl -n {namespace} delete {name}"
            raise usage_error(f"{name} is no GreenJob: Windward deletes what it created alone", fix=fix)
        path = f"{PATH}/namespaces/{namespace}/greenjobs/{name}"
        return self._done(lambda: self.api.delete(path, propagationPolicy="Background"))

    def driver(self, job: GreenJob) -> Driver:
        return Driver()

    def rehearsed(self, job: GreenJob) -> bool:
        return False

    def _done(self, call: Callable[[], object]) -> bool:
        try:
            self.request(call)
        except NotFound:
            return False
        return True

    @staticmethod
    def request(call: Callable[[], T]) -> T:
        """A call whose trouble is told as an error for people; `NotFound` is the caller's."""
        fix = "check the cluster and your rights: kubectl get greenjobs, windward doctor"
        try:
            return call()
        except NotFound:
            raise
        except ClusterError as e:
            what = "the cluster refused or did not answer"
            raise CliError(what, cause=str(e), fix=fix, code=Exit.UNREACHABLE) from e
        except Exception as e:  # certificates, names, answers that are no JSON: all of it is the cluster's
            raise CliError(
                "the cluster cannot be used", cause=str(e) or type(e).__name__, fix=fix, code=Exit.UNREACHABLE
            ) from e


def _managed_path(namespace: str, name: str) -> str:
    word, _, name = name.partition("/")
    kind = next(k for k in MANAGED_KINDS if k.kind.lower() == word)
    return f"/apis/{kind.api_version}/namespaces/{namespace}/{kind.plural}/{name}"


def _in_annotations(patch: Mapping[str, Any]) -> dict[str, Any]:
    """A change of a GreenJob in the words of a managed workload, of whose spec nothing is ours."""
    annotations = dict((patch.get("metadata") or {}).get("annotations") or {})
    if "suspend" in (patch.get("spec") or {}):
        annotations[f"{PREFIX}suspend"] = "true" if patch["spec"]["suspend"] else None
    return {"metadata": {"annotations": annotations}}


def _at(event: Mapping[str, Any]) -> str:
    """When an event was; newer API versions leave `firstTimestamp` empty."""
    return str(event.get("firstTimestamp") or event.get("eventTime") or "")


def jobs_of(target: Target) -> Jobs:
    """Where the commands look."""
    return LocalJobs() if target.local else RemoteJobs(target)


def one(jobs: Jobs, target: Target, name: str) -> GreenJob | BadObject:
    """The job called `name`; `namespace/name` is understood too, and `jobset/name` for a managed workload.

    Raises:
        CliError: there is none.
    """
    *place, name = name.split("/")
    kind = place.pop() if place and place[-1] in _KIND_WORDS else ""
    given = "/".join(place)
    if given and target.namespace and given != target.namespace:
        fix = f"leave out -n, or write {target.namespace}/{name}"
        raise usage_error(f"{given}/{name} is not in namespace {target.namespace}", fix=fix)
    namespace = given or target.namespace or jobs.namespace()
    _checked("namespace", namespace)
    _checked("name", name, subdomain=True)
    name = f"{kind}/{name}" if kind else name
    job = jobs.get(namespace, name)
    if job is None:
        elsewhere = replace(target, namespace="")
        fix = f"windward list{'' if elsewhere.local else ' --cluster'} shows what there is; -n names another namespace"
        kind_of = "managed workload" if kind else "GreenJob"
        raise CliError(f"there is no {kind_of} {namespace}/{name}", fix=fix, code=Exit.NOT_FOUND)
    return job


def _checked(field: str, value: str, *, subdomain: bool = False) -> None:
    try:
        check_name(field, value, subdomain=subdomain)
    except ValueError as e:
        raise usage_error(str(e), fix="windward list shows what there is") from e
