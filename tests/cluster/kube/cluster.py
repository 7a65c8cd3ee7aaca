"""One cluster: `with Cluster(binaries()) as cluster:` is a control plane; `cluster.node("north")` joins a real node."""

from __future__ import annotations

import os
import ssl
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from cluster.kube.build import Unavailable
from cluster.kube.client import Kube
from cluster.kube.helm import Helm
from cluster.kube.image import UID, Image
from cluster.kube.machine import OWNED, Machine, discard, machine
from cluster.kube.node import REGION, Node
from cluster.kube.pki import Pki
from cluster.kube.process import Supervisor

SERVICES = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
FAKE_DURATION = "test.windward.dev/duration"  # annotation of a pod on a fake node, like "5s"; without it: at once


class Cluster:
    """A throwaway cluster on this machine. Everything it makes is under `folder` and in its namespaces."""

    def __init__(self, binaries: Path, images: list[Image] | None = None) -> None:
        self.binaries = binaries
        self.images = images if images is not None else []
        self.nodes: dict[str, Node] = {}

    def __enter__(self) -> Cluster:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{OWNED}{os.getpid()}-"))
        self.folder.chmod(0o755)
        self._machine: Machine | None = None
        self._parts: Supervisor | None = None
        try:
            self._machine = machine()
            self._parts = Supervisor(self.folder, self._machine.prefix)
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process of the cluster and removes what it wrote. May be called twice."""
        if self._parts is not None:
            self._parts.stop(patience_s=0 if self.where.prefix else 5)
        if self._machine is not None:
            self._machine.close()
        discard(self.folder)

    @property
    def where(self) -> Machine:
        assert self._machine is not None
        return self._machine

    @property
    def parts(self) -> Supervisor:
        assert self._parts is not None
        return self._parts

    @property
    def real(self) -> bool:
        """Whether real nodes can join."""
        return bool(self.where.prefix)

    def _start(self) -> None:
        host = self.where.host
        self.port, etcd, peer, manager, scheduler, kwok = self.where.ports(6)
        self.server = f"https://{host}:{self.port}"
        self.pki = Pki(self.folder)
        names = [
            f"IP:{host}",
            "IP:127.0.0.1",
            f"IP:{KUBERNETES_SERVICE}",
            "DNS:localhost",
            "DNS:kubernetes.default.svc",
        ]
        serving = self.pki.certificate("apiserver", "/CN=kube-apiserver", names)
        admin = self.pki.certificate("admin", "/O=system:masters/CN=admin")
        tokens = self.pki.signing_pair("tokens")
        self.kubeconfig = self.pki.kubeconfig(self.folder / "admin.conf", self.server, admin)
        self.kube = Kube(self.binaries / "kubectl", self.kubeconfig, home=self.folder)
        self.helm = Helm(self.binaries / "helm", self.kubeconfig, home=self.folder)

        self._etcd(etcd, peer)
        self._apiserver(etcd, serving, admin, tokens)
        self.parts.until("API server ready", self._answers, 90)
        self._controllers(manager, scheduler, kwok, tokens[0])
        self.parts.until("default service account", self._service_account, 60)

    def _etcd(self, port: int, peer: int) -> None:
        clients = f"http://127.0.0.1:{port}"
        self.parts.start(
            "etcd",
            [
                *(self.binaries / "etcd", "--data-dir", self.folder / "etcd", "--unsafe-no-fsync"),
                *("--listen-client-urls", clients, "--advertise-client-urls", clients),
                *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
            ],
        )

    def _apiserver(
        self, etcd: int, serving: tuple[Path, Path], admin: tuple[Path, Path], tokens: tuple[Path, Path]
    ) -> None:
        flags = {
            "etcd-servers": f"http://127.0.0.1:{etcd}",
            "bind-address": self.where.host,
            "advertise-address": self.where.host,
            "secure-port": self.port,
            "tls-cert-file": serving[0],
            "tls-private-key-file": serving[1],
            "client-ca-file": self.pki.ca,
            "service-account-signing-key-file": tokens[0],
            "service-account-key-file": tokens[1],
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-cluster-ip-range": SERVICES,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "feature-gates": "MutatingAdmissionPolicy=true",
            "runtime-config": "admissionregistration.k8s.io/v1beta1=true",
            "endpoint-reconciler-type": "none",
            "kubelet-client-certificate": admin[0],
            "kubelet-client-key": admin[1],
            "kubelet-certificate-authority": self.pki.ca,
            "kubelet-preferred-address-types": "InternalIP",
        }
        self.parts.start("apiserver", [self.binaries / "kube-apiserver", *_flags(flags)])

    def _controllers(self, manager: int, scheduler: int, kwok: int, token_key: Path) -> None:
        common: dict[str, Any] = {"kubeconfig": self.kubeconfig, "leader-elect": "false", "bind-address": "127.0.0.1"}
        flags = {
            **common,
            "secure-port": manager,
            "service-account-private-key-file": token_key,
            "root-ca-file": self.pki.ca,
            "use-service-account-credentials": "true",
            "concurrent-job-syncs": 20,
            "pvclaimbinder-sync-period": "2s",  # a claim that was missed at first is looked at again soon
        }
        self.parts.start("controller-manager", [self.binaries / "kube-controller-manager", *_flags(flags)])
        self.parts.start("scheduler", [self.binaries / "kube-scheduler", *_flags({**common, "secure-port": scheduler})])
        flags = {
            "kubeconfig": self.kubeconfig,
            "manage-nodes-with-annotation-selector": "kwok.x-k8s.io/node=fake",
            "config": self._stages(),
            "server-address": f"127.0.0.1:{kwok}",
        }
        self.parts.start("kwok", [self.binaries / "kwok", *_flags(flags)])

    def _stages(self) -> Path:
        """KWOK's own stages, but that a pod may say how long it pretends to work."""
        stages = list(yaml.safe_load_all((self.binaries / "kwok-stages.yaml").read_text()))
        (complete,) = [stage for stage in stages if stage["metadata"]["name"] == "pod-complete"]
        source = {"expressionFrom": f'.metadata.annotations["{FAKE_DURATION}"]'}
        complete["spec"]["delay"] = {"durationMilliseconds": 0, "durationFrom": source}
        path = self.folder / "kwok-stages.yaml"
        path.write_text(yaml.safe_dump_all(stages))
        return path

    def _answers(self) -> bool:
        trust = ssl.create_default_context(cafile=str(self.pki.ca))
        trust.load_cert_chain(self.folder / "admin.crt", self.folder / "admin.key")
        # No proxy: the address is this machine's own, whatever the environment says.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        try:
            with opener.open(f"{self.server}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _service_account(self) -> bool:
        return self.kube.get("serviceaccount", "default", namespace="default") is not None

    def node(self, name: str, labels: dict[str, str] | None = None) -> Node:
        """Joins one more real node, its own region unless `labels` say otherwise, and waits until it is ready."""
        if not self.real:
            raise Unavailable("a real node needs root and Linux namespaces; control plane and fake nodes work without")
        node = Node(self, name, len(self.nodes), {REGION: name, **(labels or {})})
        self.nodes[name] = node
        node.start()
        return node

    def fake_nodes(self, region: str, count: int = 1, gpus: int = 8, labels: dict[str, str] | None = None) -> list[str]:
        """Nodes that only pretend; pods there tolerate `kwok.x-k8s.io/node` and end after their FAKE_DURATION."""
        names = [f"fake-{region}-{index}" for index in range(count)]
        resources = {"cpu": "64", "memory": "512Gi", "pods": "1000", "nvidia.com/gpu": str(gpus)}
        for name in names:
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                    "labels": {"type": "kwok", REGION: region, **(labels or {})},
                },
                "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
                "status": {"capacity": resources, "allocatable": resources},
            }
            self.kube.apply(node)
            self.kube.wait("node", name, node_ready, timeout_s=30)
        return names

    def storage(self, namespace: str, claim: str = "windward-storage") -> Path:
        """A folder of this machine, bound to a claim that pods of all nodes share; returns the folder."""
        folder = self.folder / "storage" / namespace / claim
        folder.mkdir(parents=True)
        # A hostPath volume is not given to the pod's group by the kubelet, as a real storage class would do.
        os.chown(folder, UID, UID)
        folder.chmod(0o2777)
        self.kube.apply(*volume_and_claim(namespace, claim, folder))
        self.kube.wait(
            "pvc", claim, lambda found: found["status"].get("phase") == "Bound", timeout_s=30, namespace=namespace
        )
        return folder


class ExistingCluster:
    """A cluster that somebody else runs; its nodes need the images and a storage class of their own."""

    def __init__(self, kubeconfig: Path, binaries: Path) -> None:
        self.kubeconfig = kubeconfig
        self.kube = Kube(binaries / "kubectl", kubeconfig, home=None)
        self.helm = Helm(binaries / "helm", kubeconfig, home=None)

    def regions(self) -> list[str]:
        """Regions of its ready nodes."""
        found = {node["metadata"].get("labels", {}).get(REGION) for node in self.kube.list("nodes") if node_ready(node)}
        return sorted(region for region in found if region)


def node_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def volume_and_claim(namespace: str, claim: str, folder: Path) -> list[dict[str, Any]]:
    size = {"storage": "10Gi"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{claim}"},
        "spec": {
            "capacity": size,
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {"namespace": namespace, "name": claim},
        },
    }
    bound = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": f"{namespace}-{claim}",
            "resources": {"requests": size},
        },
    }
    return [volume, bound]


def _flags(flags: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
