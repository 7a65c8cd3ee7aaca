"""Where a cluster lives on this machine.

As root, in network, mount and process namespaces of its own, joined to the machine by one pair of virtual interfaces.
Bridges, address-translation rules, mounts, sockets, containers and their shims then all end with one process, even
when the test run is killed, and two clusters never meet. Without root there is a control plane with fake nodes only,
on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cluster.kube.build import Unavailable
from ports import free_ports

CGROUPS = Path("/sys/fs/cgroup")
OWNED = "windward-kube-"  # a cluster's folder is named OWNED + its owner's pid, to be found again after a crash
TASKS = "node-*/containerd*/io.containerd.runtime.v2.task/k8s.io/*"  # in it, a folder for each container

# Paths that containerd, its shims, the CNI library and kubelet take whatever they are told: covered by empty ones.
# One that did not exist stays behind as an empty folder: removing it would uncover it in another cluster of now.
COVERED = (Path("/run"), Path("/var/log"), Path("/var/lib/cni"), Path("/var/lib/kubelet"))

# The first process of the process namespace: it lives, and leaves no zombie of an orphaned shim.
INIT = "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()\n"


class Machine(Protocol):
    """`prefix` goes before every command of the cluster; `host` is the address its API server listens on."""

    prefix: list[str]
    host: str

    def ports(self, count: int) -> list[int]: ...
    def close(self) -> None: ...


class Plain:
    """No isolation: loopback and ports that are free now."""

    def __init__(self) -> None:
        self.prefix: list[str] = []
        self.host = "127.0.0.1"

    def ports(self, count: int) -> list[int]:
        return free_ports(count, self.host)

    def close(self) -> None: ...


class Namespaces:
    """Namespaces of one cluster, and the way into them."""

    def __init__(self) -> None:
        sweep()
        self._unshare: subprocess.Popen[bytes] | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        for path in COVERED:
            path.mkdir(parents=True, exist_ok=True)
        self._unshare = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--"),
                *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
                *(sys.executable, "-c", INIT),
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = _child(self._unshare)
        self.prefix = ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "--"]
        for path in COVERED:
            self.inside("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", path)
        self._join_network()

    def _join_network(self) -> None:
        """One /30 between this machine and the cluster; a /22 of pod addresses behind it."""
        for index in range(64):
            self.link = link = f"wwkube{index}"
            done = _run(
                "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid), check=False
            )
            if done.returncode == 0:
                break
        else:
            raise Unavailable(f"no virtual interface could be made: {done.stdout}")
        here, there = f"10.243.{index}.1", f"10.243.{index}.2"
        self.pods = ipaddress.ip_network(f"10.244.{4 * index}.0/22")
        self.host = there
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("ip", "addr", "add", f"{there}/30", "dev", "eth0")
        self.inside("ip", "link", "set", "eth0", "up")
        self.inside("ip", "route", "add", "default", "via", here)
        self.inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        _run("ip", "addr", "add", f"{here}/30", "dev", link)
        _run("ip", "link", "set", link, "up")
        _run("ip", "route", "add", str(self.pods), "via", there)

    def inside(self, *argv: str | Path) -> str:
        return _run(*self.prefix, *argv).stdout

    def ports(self, count: int) -> list[int]:
        return list(range(6443, 6443 + count))  # a network of our own: all are free

    def close(self) -> None:
        """Ends the first process of the namespaces; the kernel ends the others and drops mounts and interfaces."""
        if self._unshare is not None:
            self._unshare.kill()
            self._unshare.wait()
            _until_gone(getattr(self, "pid", None))


def machine() -> Machine:
    """Namespaces where this user may have them, else plain loopback."""
    tools = all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip", "mount"))
    if os.geteuid() == 0 and tools and _run("unshare", "-n", "-m", "-p", "-f", "true", check=False).returncode == 0:
        return Namespaces()
    return Plain()


def sweep() -> None:
    """Removes what killed runs of earlier left: their folders and their containers' control groups."""
    for folder in Path(tempfile.gettempdir()).glob(f"{OWNED}*"):
        pid = folder.name.removeprefix(OWNED).split("-")[0]
        if not Path(f"/proc/{pid}").exists():
            discard(folder)


def discard(folder: Path) -> None:
    """Removes a cluster's folder, once its processes are gone, and first the control groups that it tells of."""
    for container in {one.name for one in folder.glob(TASKS)}:
        for group in cgroups(container):
            _remove_cgroup(group)
    for group in cgroups(""):
        with contextlib.suppress(OSError):  # not empty: of another cluster
            group.rmdir()
    shutil.rmtree(folder, ignore_errors=True)


def cgroups(container: str) -> Iterator[Path]:
    """Where containerd puts a container: in one tree, or with version 1 in one for each controller."""
    name = f"k8s.io/{container}".rstrip("/")
    for place in (CGROUPS / name, *(tree / name for tree in CGROUPS.iterdir() if tree.is_dir())):
        if place.is_dir() and not place.is_symlink():
            yield place


def _remove_cgroup(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        for _ in range(50):  # busy until the last of its processes is reaped
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
                break
            time.sleep(0.02)


def _child(popen: subprocess.Popen[bytes]) -> int:
    """The first process inside: `unshare`'s only child, once it is our interpreter and has its own /proc."""
    for _ in range(500):
        if popen.poll() is not None:
            raise Unavailable(f"unshare ended with {popen.returncode}")
        children = Path(f"/proc/{popen.pid}/task/{popen.pid}/children").read_text().split()
        if children:
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{children[0]}/cmdline").read_bytes().split(b"\0")
                if INIT.encode() in command and command[0] != b"unshare":
                    return int(children[0])
        time.sleep(0.01)
    raise Unavailable("unshare started nothing")


def _until_gone(pid: int | None) -> None:
    while pid is not None and Path(f"/proc/{pid}").exists():
        time.sleep(0.02)


def _run(*argv: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, check=False
    )
    if check and done.returncode != 0:
        raise Unavailable(f"`{' '.join(map(str, argv))}`: {done.stdout}")
    return done


def in_machine(where: Machine, argv: Sequence[str | Path]) -> str:
    """Runs one short command in the cluster's namespaces and returns what it printed."""
    return _run(*where.prefix, *argv).stdout
