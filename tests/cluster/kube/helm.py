"""Helm as a user would run it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


class HelmFailed(AssertionError):
    """Helm said no; `text` is what the user would have read."""

    def __init__(self, command: Sequence[str], text: str) -> None:
        super().__init__(f"helm {' '.join(command)}: {text}")
        self.text = text


class Helm:
    def __init__(self, helm: Path, kubeconfig: Path | None, home: Path | None) -> None:
        self._helm, self._kubeconfig, self._home = helm, kubeconfig, home

    def run(self, *argv: str | Path) -> str:
        env = dict(os.environ)
        if self._kubeconfig is not None:
            env["KUBECONFIG"] = str(self._kubeconfig)
        if self._home is not None:
            env |= {
                f"HELM_{kind}_HOME": str(self._home / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")
            }
        words = [str(word) for word in argv]
        done = subprocess.run(
            [self._helm, *words],
            capture_output=True,
            text=True,
            env=env,
            timeout=300,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            raise HelmFailed(words, f"{done.stderr.strip()}\n{done.stdout.strip()}".strip())
        return done.stdout

    def template(self, chart: Path, *argv: str | Path, namespace: str = "windward-system") -> str:
        return self.run("template", "windward", chart, "--namespace", namespace, *argv)

    def install(self, release: str, chart: Path, namespace: str, *argv: str | Path, wait: bool = True) -> str:
        """Installs or upgrades; `argv` like `--set`, `a=b` or `--values`, PATH."""
        patience = ["--wait", "--timeout", "180s"] if wait else []
        return self.run("upgrade", "--install", release, chart, "-n", namespace, "--create-namespace", *patience, *argv)

    def test(self, release: str, namespace: str) -> str:
        return self.run("test", release, "-n", namespace, "--timeout", "180s")

    def uninstall(self, release: str, namespace: str) -> str:
        return self.run("uninstall", release, "-n", namespace, "--wait", "--ignore-not-found")
