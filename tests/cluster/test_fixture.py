"""The cluster itself: what every other cluster test takes for granted."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from cluster.images import chart_images
from cluster.kube import Cluster, Kube, Unavailable
from cluster.kube.client import wait_for
from cluster.kube.cluster import FAKE_DURATION, node_ready
from cluster.kube.machine import OWNED, Namespaces, Plain, sweep
from cluster.kube.node import REGION, Node

pytestmark = pytest.mark.cluster

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod(name: str, command: list[str], region: str = "north", **container: Any) -> dict[str, Any]:
    """A pod as Pod Security `restricted` wants it, in the worker's image."""
    _, worker = chart_images()
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {REGION: region},
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": worker.name,
                    "command": command,
                    "securityContext": RESTRICTED,
                    **container,
                }
            ],
        },
    }


def ended(found: dict[str, Any]) -> bool:
    return found["status"].get("phase") in {"Succeeded", "Failed"}


def terminated(found: dict[str, Any]) -> dict[str, Any]:
    return dict(found["status"]["containerStatuses"][0]["state"]["terminated"])


def test_real_nodes_are_ready_in_their_regions(kube: Kube, nodes: dict[str, Node]) -> None:
    found = {node["metadata"]["name"]: node for node in kube.list("nodes")}
    for name in nodes:
        assert node_ready(found[name])
        assert found[name]["metadata"]["labels"][REGION] == name


def test_a_fake_node_has_gpus_and_completes_a_job_at_once(cluster: Cluster, kube: Kube, namespace: str) -> None:
    (fake,) = cluster.fake_nodes("nowhere", gpus=4)
    assert kube.must_get("node", fake)["status"]["allocatable"]["nvidia.com/gpu"] == "4"
    limits = {"limits": {"nvidia.com/gpu": "4"}}
    template = pod("unused", ["train"], region="nowhere", resources=limits)["spec"]
    template["tolerations"] = [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "fake"},
        "spec": {"template": {"spec": template}},
    }
    kube.apply(job, namespace=namespace)
    done = kube.wait("job", "fake", lambda found: found["status"].get("succeeded") == 1, 30, namespace)
    assert done["status"]["conditions"]


def test_a_pod_on_a_fake_node_lasts_as_long_as_it_says(cluster: Cluster, kube: Kube, namespace: str) -> None:
    cluster.fake_nodes("nowhere")
    template = pod("unused", ["train"], region="nowhere")["spec"]
    template["tolerations"] = [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]
    long = {"metadata": {"annotations": {FAKE_DURATION: "6s"}}, "spec": template}
    kube.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "long"}, "spec": {"template": long}},
        namespace=namespace,
    )
    begun = time.monotonic()
    kube.wait("job", "long", lambda found: found["status"].get("active") == 1, 30, namespace)
    kube.wait("job", "long", lambda found: found["status"].get("succeeded") == 1, 30, namespace)
    assert time.monotonic() - begun >= 5


def test_an_unprivileged_pod_runs_our_python_with_torch(kube: Kube, nodes: dict[str, Node], namespace: str) -> None:
    kube.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    script = "import os, torch, windward_api; print(os.getuid(), torch.arange(4).sum().item())"
    kube.apply(pod("torch", ["python", "-c", script]), namespace=namespace)
    found = kube.wait("pod", "torch", ended, 120, namespace)
    assert terminated(found)["exitCode"] == 0, kube.diagnose(namespace)
    assert kube.logs("torch", namespace).split() == ["65532", "6"]


def test_the_console_scripts_are_in_the_path(kube: Kube, nodes: dict[str, Node], namespace: str) -> None:
    kube.apply(
        pod("which", ["sh", "-c", "command -v windward-operator && command -v windward-worker"]), namespace=namespace
    )
    found = kube.wait("pod", "which", ended, 60, namespace)
    assert terminated(found)["exitCode"] == 0, kube.diagnose(namespace)


def test_the_machine_is_lent_read_only(kube: Kube, nodes: dict[str, Node], namespace: str) -> None:
    here = Path(__file__).resolve()
    tries = f"for place in /usr /etc {here.parent}; do touch $place/mark 2>/dev/null && echo wrote $place; done; true"
    kube.apply(pod("touch", ["sh", "-c", tries]), namespace=namespace)
    kube.wait("pod", "touch", ended, 60, namespace)
    assert kube.logs("touch", namespace) == ""


def test_sigterm_is_answered_with_exit_75_and_a_last_message(
    kube: Kube, nodes: dict[str, Node], namespace: str
) -> None:
    """The contract with a running container: what an image must do to be paused can be done and seen here."""
    script = (
        "import signal, sys, pathlib\n"
        "def stop(*_):\n"
        "    pathlib.Path('/dev/termination-log').write_text('{\"progress\": 0.5}')\n"
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('working', flush=True)\n"
        "signal.pause()\n"
    )
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "paused"},
        "spec": {"backoffLimit": 0, "template": {"spec": pod("unused", ["python", "-c", script])["spec"]}},
    }
    kube.apply(job, namespace=namespace)
    kube.wait("job", "paused", lambda found: found["status"].get("ready") == 1, 60, namespace)
    (running,) = kube.list("pods", namespace, "job-name=paused")
    name = running["metadata"]["name"]
    # A finalizer keeps the ended pod to be looked at, as a Job's own finalizer does until it is counted.
    kube.patch("pod", name, {"metadata": {"finalizers": ["windward.dev/test"]}}, namespace)
    kube.patch("job", "paused", {"spec": {"suspend": True}}, namespace)
    found = kube.wait("pod", name, ended, 60, namespace)
    kube.patch("pod", name, {"metadata": {"finalizers": None}}, namespace)
    assert terminated(found)["exitCode"] == 75
    assert terminated(found)["message"] == '{"progress": 0.5}'


def test_a_pod_reaches_the_api_with_its_token(kube: Kube, nodes: dict[str, Node], namespace: str) -> None:
    script = (
        "import os, ssl, urllib.request as r\n"
        "at = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "url = 'https://' + os.environ['KUBERNETES_SERVICE_HOST'] + ':' + os.environ['KUBERNETES_SERVICE_PORT']\n"
        "ask = r.Request(url + '/api', headers={'Authorization': 'Bearer ' + open(at + 'token').read()})\n"
        "print(r.urlopen(ask, context=ssl.create_default_context(cafile=at + 'ca.crt'), timeout=10).status)\n"
    )
    body = pod("client", ["python", "-c", script], region="central")
    body["spec"]["automountServiceAccountToken"] = True
    kube.wait("serviceaccount", "default", lambda found: True, 30, namespace)
    kube.apply(body, namespace=namespace)
    kube.wait("pod", "client", ended, 60, namespace)
    assert kube.logs("client", namespace).strip() == "200"


def test_two_nodes_share_one_claim(cluster: Cluster, kube: Kube, nodes: dict[str, Node], namespace: str) -> None:
    folder = cluster.storage(namespace)
    mounts = {"volumeMounts": [{"name": "storage", "mountPath": "/windward/storage"}]}
    claim = [{"name": "storage", "persistentVolumeClaim": {"claimName": "windward-storage"}}]
    for region, command in {"north": "echo hello > /windward/storage/x", "central": "cat /windward/storage/x"}.items():
        body = pod(f"in-{region}", ["sh", "-c", command], region=region, **mounts)
        body["spec"]["volumes"] = claim
        kube.apply(body, namespace=namespace)
        found = kube.wait("pod", f"in-{region}", ended, 60, namespace)
        assert terminated(found)["exitCode"] == 0, kube.diagnose(namespace)
    assert kube.logs("in-central", namespace) == "hello\n"
    assert (folder / "x").stat().st_uid == 65532


def test_a_pod_answers_to_this_machine(kube: Kube, nodes: dict[str, Node], namespace: str) -> None:
    """So that a test can read the operator's metrics at its pod's address."""
    kube.apply(pod("web", ["python", "-m", "http.server", "8080", "--directory", "/tmp"]), namespace=namespace)
    found = kube.wait("pod", "web", lambda one: one["status"].get("phase") == "Running", 60, namespace)
    address = found["status"]["podIP"]
    ask = ["curl", "--noproxy", "*", "-sf", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]
    done = subprocess.run([*ask, f"http://{address}:8080/"], capture_output=True, text=True, check=False)
    assert "Directory listing" in done.stdout


def traces(words: list[str]) -> set[str]:
    """Those of the words that a mount, an interface, a control group, a folder or a process of this machine names."""
    found = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [str(one) for one in Path("/sys/class/net").iterdir()]
    found += [str(one) for one in Path("/sys/fs/cgroup").glob("**/k8s.io/*")]
    found += [str(one) for one in Path(tempfile.gettempdir()).glob(f"{OWNED}*")]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(process.read_text())
    return {word for word in words if any(word in one for one in found)}


def test_a_cluster_leaves_nothing_behind(kube_binaries: Path, nodes: dict[str, Node]) -> None:
    with Cluster(kube_binaries, chart_images()) as second:
        assert isinstance(second.where, Namespaces)
        second.node("gone")
        second.kube.apply(pod("sleeper", ["sleep", "600"], region="gone"), namespace="default")
        second.kube.wait("pod", "sleeper", lambda one: one["status"].get("phase") == "Running", 60, "default")
        (container, *_) = second.kube.must_get("pod", "sleeper", "default")["status"]["containerStatuses"]
        words = [second.folder.name, second.where.link, container["containerID"].removeprefix("containerd://")]
        assert traces(words) == set(words)
    assert traces(words) == set()


def test_without_root_there_is_a_control_plane_with_fake_nodes(
    kube_binaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.kube.cluster.machine", Plain)
    with Cluster(kube_binaries) as plain:
        assert plain.server.startswith("https://127.0.0.1:")
        plain.fake_nodes("somewhere")
        with pytest.raises(Unavailable, match="needs root"):
            plain.node("real")
        processes = [part.popen for part in plain.parts.parts]
        assert all(one.poll() is None for one in processes)
    assert all(one.poll() is not None for one in processes)


def test_a_killed_run_takes_its_cluster_with_it(nodes: dict[str, Node]) -> None:
    """Processes and interfaces go at once; the folder goes when the next cluster starts."""
    script = Path(__file__).with_name("up.py")
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        line = run.stdout.readline()
        run.kill()
    folder = Path(line.split("KUBECONFIG=")[1].split()[0]).parent

    def serving() -> bool:
        return any(str(folder) in one.read_text() for one in Path("/proc").glob("[0-9]*/cmdline") if one.exists())

    wait_for("processes gone", lambda: not serving(), 10)
    assert folder.exists()
    sweep()
    assert not folder.exists()
