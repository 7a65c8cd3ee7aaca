"""README's section on clusters, followed to the letter: each command as it is printed, in order, ending with a receipt.

Only `docker` and `kind` are stand-ins, since no container engine runs here: the test nodes carry images of those names,
which hold this checkout.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from cluster.kube import Helm, Kube
from cluster.kube.node import Node

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = '#!/bin/sh\necho "(stand-in) $0 $*"\n'


def commands() -> list[str]:
    """The lines that a reader types."""
    section = (ROOT / "README.md").read_text().split("\n## On a cluster\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.S)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_readme_leads_from_nothing_to_a_receipt(
    kube: Kube, helm: Helm, kube_binaries: Path, nodes: dict[str, Node], release: str, tmp_path: Path
) -> None:
    helm.uninstall(release, "windward-system")  # what other tests installed: README begins on a cluster without it
    kube.wait_gone("deployment", "windward", 60, "windward-system")
    for name in ("docker", "kind"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    env = {
        **os.environ, "KUBECONFIG": str(kube.kubeconfig), "HOME": str(tmp_path),
        "PATH": os.pathsep.join([str(tmp_path), str(kube_binaries), os.environ["PATH"]]),
    }  # fmt: skip
    typed = commands()
    assert [c.split()[0] for c in typed[:3]] == ["docker", "docker", "kind"] and len(typed) >= 8, typed
    said = ""
    try:
        for command in typed:
            done = subprocess.run(
                ["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=400, check=False
            )
            said = done.stdout
            assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}\n{kube.diagnose('windward-system')}"
        for word in ("first", "kWh", "g", "DEMO", "receipt"):
            assert word.lower() in said.lower(), f"the last command shows no receipt:\n{said}"
    finally:
        kube.delete("greenjob", "first", "default")
        kube.delete("greenregion", "here")
        helm.uninstall(release, "windward-system")
        helm.install(release, ROOT / "charts" / "windward", "windward-system", wait=False)
