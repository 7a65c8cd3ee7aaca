"""A real node on this machine: containerd and runc run pods, a bridge connects them, a kubelet obeys the cluster."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.kube.build import Unavailable
from cluster.kube.image import Image, runtime_spec, write_archive
from cluster.kube.machine import Namespaces, in_machine

if TYPE_CHECKING:
    from cluster.kube.cluster import Cluster

REGION = "topology.kubernetes.io/region"
PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
SANDBOX = "localhost/windward-test/pause:1"

CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  # Inside another virtual machine or container a process may not be allowed to lower its own out-of-memory score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    # Lends every container this machine's programs: see image.py.
    base_runtime_spec = "{folder}/container.json"
"""


class Node:
    def __init__(self, cluster: Cluster, name: str, number: int, labels: dict[str, str]) -> None:
        self.cluster, self.name, self.number, self.labels = cluster, name, number, labels
        self.folder = cluster.folder / f"node-{name}"
        self.socket = self.folder / "containerd.sock"
        where = cluster.where
        assert isinstance(where, Namespaces)
        subnets = list(where.pods.subnets(new_prefix=24))
        if number >= len(subnets):
            raise Unavailable(f"a cluster has room for {len(subnets)} real nodes")
        self.subnet = subnets[number]
        self.address = str(self.subnet[1])
        self.bridge = f"pods{number}"

    def start(self) -> None:
        (self.folder / "cni").mkdir(parents=True)
        self._network()
        self._containerd()
        self._kubelet()
        # Not by kubelet flag: a kubelet may not label its node as it likes.
        self.cluster.parts.until(f"node {self.name} registered", self._registered, 60)
        pairs = [f"{key}={value}" for key, value in self.labels.items()]
        self.cluster.kube.kubectl("label", "--overwrite", "node", self.name, *pairs)
        self.cluster.parts.until(f"node {self.name} ready", self._ready, 90)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Its kubelet does nothing, as on a node that lost its network; containers run on."""
        (kubelet,) = [p for p in self.cluster.parts.parts if p.name == f"kubelet-{self.name}"]
        os.killpg(kubelet.popen.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(kubelet.popen.pid, signal.SIGCONT)
            self.cluster.parts.until(f"node {self.name} ready again", self._ready, 90)

    def ctr(self, *argv: str | Path) -> str:
        return in_machine(self.cluster.where, ["ctr", "-a", str(self.socket), "-n", "k8s.io", *argv])

    def load(self, images: list[Image]) -> None:
        """Makes the images and puts them into this node's store."""
        archive = self.folder / "images.tar"
        write_archive(images, archive)
        self.ctr("images", "import", archive)
        archive.unlink()

    def _registered(self) -> bool:
        return self.cluster.kube.get("node", self.name) is not None

    def _ready(self) -> bool:
        from cluster.kube.cluster import node_ready

        found = self.cluster.kube.get("node", self.name)
        return found is not None and node_ready(found)

    def _network(self) -> None:
        inside = self.cluster.where
        in_machine(inside, ["ip", "link", "add", self.bridge, "type", "bridge"])
        in_machine(inside, ["ip", "addr", "add", f"{self.address}/24", "dev", self.bridge])
        in_machine(inside, ["ip", "link", "set", self.bridge, "up"])
        # In place of kube-proxy: pods reach the API server at the address of the `kubernetes` Service.
        in_machine(
            inside,
            [
                *("iptables", "-t", "nat", "-A", "PREROUTING", "-i", self.bridge, "-d", "10.96.0.1/32", "-p", "tcp"),
                *("--dport", "443", "-j", "DNAT", "--to-destination", f"{inside.host}:{self.cluster.port}"),
            ],
        )
        addresses = {"subnet": str(self.subnet), "rangeStart": str(self.subnet[2])}
        plugin = {
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.folder / "addresses"),
                "ranges": [[addresses]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        network = {"cniVersion": "0.4.0", "name": self.bridge, "plugins": [plugin]}
        (self.folder / "cni" / "10-bridge.conflist").write_text(json.dumps(network))

    def _containerd(self) -> None:
        plugins = next((path for path in PLUGINS if (path / "bridge").exists()), None)
        if plugins is None:
            raise Unavailable("no CNI plugins: run tests/cluster/install-node-packages.sh")
        (self.folder / "container.json").write_text(
            runtime_spec(in_machine(self.cluster.where, ["ctr", "oci", "spec"]))
        )
        (self.folder / "containerd.toml").write_text(
            CONTAINERD.format(folder=self.folder, socket=self.socket, sandbox=SANDBOX, plugins=plugins)
        )
        self.cluster.parts.start(
            f"containerd-{self.name}", ["containerd", "-c", self.folder / "containerd.toml", "-l", "warn"]
        )
        self.cluster.parts.until(f"containerd of {self.name}", self._containerd_answers, 30)
        pause = Image(SANDBOX, ("/pause",), files=(("pause", self.cluster.binaries / "pause"),))
        self.load([pause, *self.cluster.images])

    def _containerd_answers(self) -> bool:
        try:
            self.ctr("version")
        except Unavailable:
            return False
        return True

    def _kubelet(self) -> None:
        pki, name = self.cluster.pki, self.name
        client = pki.certificate(f"{name}-client", f"/O=system:nodes/CN=system:node:{name}")
        serving = pki.certificate(f"{name}-serving", f"/CN={name}", [f"IP:{self.address}", f"DNS:{name}"])
        config = pki.kubeconfig(self.folder / "kubelet.conf", self.cluster.server, client)
        port = 10250 + 10 * self.number
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "port": port,
            "healthzPort": port - 2,
            "readOnlyPort": 0,
            "podLogsDir": str(self.folder / "logs"),  # each kubelet removes the logs of pods that it does not know
            "resolvConf": "",  # there is no name service in the cluster, and the machine's own is out of its reach
            # A node that shares its machine: it manages no control groups but those of its containers.
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "serializeImagePulls": False,
        }
        (self.folder / "kubelet.json").write_text(json.dumps(settings))
        self.cluster.parts.start(
            f"kubelet-{name}",
            [
                *(self.cluster.binaries / "kubelet", "--config", self.folder / "kubelet.json", "--kubeconfig", config),
                *("--hostname-override", name, "--node-ip", self.address, "--root-dir", self.folder / "kubelet"),
                *("--cert-dir", self.folder / "pki", "--tls-cert-file", serving[0]),
                *("--tls-private-key-file", serving[1]),
            ],
        )
