"""Builds etcd, Kubernetes, KWOK and Helm from Go modules into a cache that all checkouts share.

The only thing needed is a Go tool that can fetch modules. The cache folder's name is a hash of this recipe, so a change
of a version builds anew beside the old one; a folder appears by one rename, so that it is complete or absent.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

KUBERNETES = "v1.35.4"
STAGING = "v0.35.4"  # the same release, as the libraries are numbered
ETCD = "v3.6.5"
KWOK = "v0.8.0"
HELM = "v4.3.1"

KUBERNETES_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
ASSETS = ("etcd", "kube-apiserver", "kubectl")  # what `setup-envtest` provides
KWOK_STAGES = ("node/fast", "node/heartbeat", "pod/fast")

# What holds a pod's namespaces open; containerd does not lend it the machine's programs, so it is one static file.
PAUSE = """\
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
"""

MINOR = re.compile(r"v?1\.(\d+)\.")


class Unavailable(RuntimeError):
    """This machine cannot do it; the message says what is missing and what to do about it."""


def recipe() -> str:
    """What decides the cache folder: this file's own text, so that no change of the recipe can be forgotten."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


def cache_folder(kind: str, recipe: str, environ: Mapping[str, str] = os.environ) -> Path:
    base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "windward" / kind / recipe


def binaries() -> Path:
    """The folder of the built binaries, building them when they are not there yet."""
    return cached("kube", recipe(), f"Kubernetes {KUBERNETES}, etcd, KWOK and Helm", _build)


def _build(builder: Builder) -> None:
    builder.kubernetes(skip=_use_assets(builder.out))
    builder.kwok()
    builder.helm()
    builder.pause()


def cached(kind: str, recipe: str, what: str, build: Callable[[Builder], None]) -> Path:
    """The folder that `build` fills, once for each recipe. Processes wait for each other."""
    folder = cache_folder(kind, recipe)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _fill(folder, what, build)
    return folder


def _fill(folder: Path, what: str, build: Callable[[Builder], None]) -> None:
    go = shutil.which("go")
    if go is None:
        raise Unavailable(
            "no `go` in PATH: the Kubernetes test binaries are built from Go modules. Install Go 1.26 or newer, or "
            "give a cluster of your own by WINDWARD_TEST_KUBECONFIG"
        )
    say(f"building {what} into {folder}: minutes the first time")
    out = Path(tempfile.mkdtemp(prefix="building-", dir=folder.parent))
    try:
        with tempfile.TemporaryDirectory() as work:
            build(Builder(go, Path(work), out))
        out.chmod(0o755)
        out.rename(folder)
    except subprocess.CalledProcessError as failed:
        raise Unavailable(f"`{' '.join(map(str, failed.cmd))[:200]}` failed:\n{failed.output}") from failed
    finally:
        shutil.rmtree(out, ignore_errors=True)


def say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def _use_assets(out: Path) -> set[str]:
    """Takes what KUBEBUILDER_ASSETS has, where its API server is as new as our kubelet (an older one may not be)."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets or not all((Path(assets) / name).is_file() for name in ASSETS):
        return set()
    version = subprocess.run(
        [Path(assets) / "kube-apiserver", "--version"], capture_output=True, text=True, check=False
    ).stdout
    theirs, ours = MINOR.search(version), MINOR.search(KUBERNETES)
    if theirs is None or ours is None or not 0 <= int(theirs[1]) - int(ours[1]) <= 2:
        say(f"KUBEBUILDER_ASSETS is {version.strip() or 'not runnable'}: not taken beside a kubelet {KUBERNETES}")
        return set()
    for name in ASSETS:
        shutil.copy2(Path(assets) / name, out / name)
    return set(ASSETS)


class Builder:
    """One throwaway Go module for each project: its imports pin what is built."""

    def __init__(self, go: str, work: Path, out: Path) -> None:
        self.go, self.work, self.out = go, work, out
        # -mod=mod: `go mod tidy` writes go.sum, checked against the checksum database as configured.
        self.env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
        self.modules = Path(self.run("env", "GOMODCACHE", folder=work).strip())

    def run(self, *args: str | Path, folder: Path) -> str:
        done = subprocess.run(
            [self.go, *args],
            cwd=folder,
            env=self.env,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return done.stdout

    def module(self, name: str, requirements: list[str], imports: list[str], extra: str = "") -> Path:
        folder = self.work / name
        folder.mkdir()
        required = "\n".join(f"require {one}" for one in requirements)
        (folder / "go.mod").write_text(f"module {name}\n\ngo 1.26.0\n\n{required}\n{extra}")
        lines = "\n".join(f'import _ "{one}"' for one in imports)
        (folder / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\n{lines}\n")
        say(f"{name}: fetching modules")
        self.run("mod", "tidy", folder=folder)
        return folder

    def build(self, folder: Path, packages: list[str], flags: str = "", name: str = "") -> None:
        say(f"{folder.name}: building {name or ', '.join(package.rsplit('/', 1)[-1] for package in packages)}")
        flags = f"-s -w {flags}".strip()
        self.run("build", "-trimpath", "-ldflags", flags, "-o", f"{self.out}/{name}", *packages, folder=folder)

    def command(self, name: str, module: str, version: str, package: str) -> Path:
        """Builds a command of a module whose own requirements decide all versions; returns the module's folder."""
        folder = self.work / name
        folder.mkdir()
        (folder / "go.mod").write_text(f"module {name}\n\ngo 1.26.0\n")
        path = f"{module}/{package}".rstrip("/")
        say(f"{name}: fetching modules")
        self.run("get", f"{path}@{version}", folder=folder)
        self.build(folder, [path], name=name)
        return self.modules / f"{module}@{version}"

    def kubernetes(self, skip: set[str]) -> None:
        self.run("mod", "download", f"k8s.io/kubernetes@{KUBERNETES}", folder=self.work)
        # Kubernetes replaces its own libraries by relative paths; outside its tree they are the published ones.
        text = (self.modules / f"k8s.io/kubernetes@{KUBERNETES}" / "go.mod").read_text()
        names = re.findall(r"^\s*(?:replace )?(\S+) => \./staging", text, re.MULTILINE)
        replace = "\n".join(f"\t{name} => {name} {STAGING}" for name in names)
        commands = [f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_COMMANDS]
        folder = self.module(
            "kubernetes",
            [f"k8s.io/kubernetes {KUBERNETES}", f"go.etcd.io/etcd/server/v3 {ETCD}"],
            [*commands, "go.etcd.io/etcd/server/v3"],
            extra=f"replace (\n{replace}\n)\n",
        )
        package = "k8s.io/component-base/version"
        major, minor, _ = KUBERNETES.removeprefix("v").split(".")
        flags = f"-X {package}.gitVersion={KUBERNETES} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        self.build(folder, [one for one in commands if one.rsplit("/", 1)[-1] not in skip], flags)
        if "etcd" not in skip:
            self.build(folder, ["go.etcd.io/etcd/server/v3"], name="etcd")

    def kwok(self) -> None:
        self.build(
            self.module("kwok", [f"sigs.k8s.io/kwok {KWOK}"], ["sigs.k8s.io/kwok/cmd/kwok"]),
            ["sigs.k8s.io/kwok/cmd/kwok"],
        )
        stages = self.modules / f"sigs.k8s.io/kwok@{KWOK}" / "kustomize" / "stage"
        files = [file for part in KWOK_STAGES for file in sorted((stages / part).glob("*.yaml"))]
        texts = [file.read_text() for file in files if file.name != "kustomization.yaml"]
        (self.out / "kwok-stages.yaml").write_text("\n---\n".join(texts))

    def helm(self) -> None:
        self.build(
            self.module("helm", [f"helm.sh/helm/v4 {HELM}"], ["helm.sh/helm/v4/cmd/helm"]), ["helm.sh/helm/v4/cmd/helm"]
        )

    def pause(self) -> None:
        folder = self.work / "pause"
        folder.mkdir()
        (folder / "go.mod").write_text("module pause\n\ngo 1.26.0\n")
        (folder / "main.go").write_text(PAUSE)
        self.build(folder, ["."], name="pause")
