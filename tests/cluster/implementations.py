"""Each implementation of the `Cluster` port, with what a test needs beside the port: a user, and time that passes."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cluster.kube import Kube
from service.served_cluster import ServedCluster

from windward.cluster.local import LocalCluster
from windward.cluster.port import Cluster
from windward.cluster.store import Store
from windward.domain.clock import FixedClock
from windward.domain.observed import Observed
from windward.manifests import RunFacts
from windward.service.clock import SystemClock
from windward.simulation.cluster import SimulatedCluster
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.scalars import format_time

T0 = datetime(2026, 3, 2, 6, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CRDS = sorted((Path(__file__).parents[2] / "crds").glob("*.yaml"))
Body = dict[str, Any]


def job_body(name: str, namespace: str, region: str) -> Body:
    """A job that goes on until it is stopped, and can pause."""
    container = {"name": "main", "image": "busybox", "command": ["sleep", "3600"]}
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "completeWithin": "12h",
            "duration": "9h",
            "placement": {"regions": [region]},
            "interruption": {"policy": "Checkpoint", "overhead": "1m"},
            "template": {"spec": {"containers": [container]}},
        },
    }


class Implementation(ABC):
    """A cluster with one region and no jobs.

    Attributes:
        cluster: what is tested.
        namespace: of the jobs.
        region: name of the region.
    """

    cluster: Cluster
    namespace = "default"
    region = "north"

    @abstractmethod
    def submit(self, name: str = "night") -> None:
        """A user applies a GreenJob."""

    @abstractmethod
    def pass_time(self) -> None:
        """Let go on what goes on by itself, for a moment."""

    def apply(self, body: Body) -> None:
        """A user applies an object of another kind."""
        raise NotImplementedError

    def close(self) -> None:
        """End it, with all that runs."""

    # -- in terms of the port ----------------------------------------------------------------------------------------

    def job(self, name: str) -> Body:
        return job_body(name, self.namespace, self.region)

    def observed(self, name: str = "night") -> Observed | None:
        jobs = [o for o in self.cluster.snapshot().jobs if o.job.metadata.name == name]
        assert len(jobs) < 2
        return jobs[0] if jobs else None

    def seen(self, name: str = "night") -> Observed:
        observed = self.observed(name)
        assert observed is not None, f"{name} is not there"
        return observed

    def green_region(self) -> GreenRegion:
        return next(r for r in self.cluster.snapshot().regions if r.metadata.name == self.region)

    def start(self, attempt: int = 1) -> RunFacts:
        """Claim an attempt and create its run."""
        job = self.cluster.claim_attempt(self.seen(), attempt, self.region)
        facts = RunFacts(job, attempt, self.green_region())
        self.cluster.create_run(facts)
        return facts

    def until(self, reached: Callable[[], object]) -> None:
        """Let time pass until `reached`; the limit only ends a test that hangs."""
        begun = time.monotonic()
        while not reached():
            assert time.monotonic() - begun < 120, f"not reached: {self.cluster.snapshot()}"
            self.pass_time()


class Local(Implementation):
    """Processes on this machine."""

    def __init__(self, home: Path) -> None:
        self.store, self.clock = Store(home / "local.db"), FixedClock(T0)
        self.apply({"kind": "GreenRegion", "metadata": {"name": self.region}, "spec": {"gridZone": "SE"}})
        self.cluster: LocalCluster = LocalCluster(self.store, home, self.clock, SystemClock())

    def submit(self, name: str = "night") -> None:
        self.store.apply(self.job(name), T0)

    def apply(self, body: Body) -> None:
        self.store.apply(body, T0)

    def pass_time(self) -> None:
        time.sleep(0.02)

    def close(self) -> None:
        for body in self.store.all("GreenJob"):
            self.cluster.delete_job(body["metadata"]["namespace"], body["metadata"]["name"])
        self.cluster.close()
        self.store.close()


class Simulated(Implementation):
    """Numbers."""

    def __init__(self) -> None:
        self.clock = FixedClock(T0)
        region = {"metadata": {"name": self.region}, "spec": {"gridZone": "SE"}}
        self.cluster: SimulatedCluster = SimulatedCluster(self.clock, [GreenRegion.model_validate(region)])

    def submit(self, name: str = "night") -> None:
        body = self.job(name)
        body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": format_time(self.clock.now())}
        self.cluster.submit(GreenJob.model_validate(body))

    def pass_time(self) -> None:
        self.cluster.pass_time(MINUTE)


class Served(Implementation):
    """The simulated one as tests of the service have it: objects are JSON."""

    def __init__(self) -> None:
        self.cluster: ServedCluster = ServedCluster(FixedClock(T0), ())
        self.apply({"kind": "GreenRegion", "metadata": {"name": self.region}, "spec": {"gridZone": "SE"}})

    def submit(self, name: str = "night") -> None:
        self.apply(self.job(name))

    def apply(self, body: Body) -> None:
        self.cluster.apply(body)

    def pass_time(self) -> None:
        self.cluster.pass_time(MINUTE)


class Kubernetes(Implementation):
    """A real API server with its controllers; nodes are not needed: a pod that waits for one is a run that starts."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        from windward.cluster.kube_api import Api, connect
        from windward.cluster.kubernetes import KubernetesCluster
        from windward.manifests.pod import RuntimeImage

        self.kube, self.namespace, self.region = kube, namespace, f"north-{namespace}"
        kube.apply(*CRDS)
        for crd in CRDS:
            kube.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(crd))
        kind = {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenRegion"}
        nowhere = {"topology.kubernetes.io/region": self.region}
        self.apply({**kind, "metadata": {"name": self.region}, "spec": {"gridZone": "SE", "nodeSelector": nowhere}})
        api = Api(connect(str(kube.kubeconfig)))
        self.cluster = KubernetesCluster(api, SystemClock(), RuntimeImage("none"), (namespace,))

    def submit(self, name: str = "night") -> None:
        self.kube.apply(self.job(name))

    def apply(self, body: Body) -> None:
        self.kube.apply({"apiVersion": "windward.dev/v1alpha1", **body})

    def pass_time(self) -> None:
        time.sleep(0.25)

    def close(self) -> None:
        self.kube.delete("greenregion", self.region)
