"""`windward doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from windward.cli import text


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `ok` None: not there, and not needed."""

    what: str
    ok: bool | None
    message: str
    fix: str = ""


def doctor(output: str, context: str = "", kubeconfig: Path | None = None) -> int:
    """Print all findings; 1 if one is bad."""
    findings = [_safely(check) for check in (*CHECKS, lambda: _cluster(context, kubeconfig))]
    if output == "json":
        items = [{"check": f.what, "ok": f.ok, "message": f.message, "fix": f.fix} for f in findings]
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "Doctor", "items": items}, indent=2))
    else:
        words = {True: "ok", False: "FAULT", None: "-"}
        rows = [[words[f.ok], f.what, f.message + (f"  fix: {f.fix}" if f.fix else "")] for f in findings]
        print(text.table([["STATE", "CHECK", "FOUND"], *rows]))
    return 1 if any(f.ok is False for f in findings) else 0


def _safely(check: Callable[[], Finding]) -> Finding:
    """A check that breaks is a finding too."""
    try:
        return check()
    except Exception as e:
        name = getattr(check, "__name__", "check").strip("_<>").replace("lambda", "cluster")
        return Finding(name, False, f"{type(e).__name__}: {e}", "correct what is named, or report it")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        "python", sys.version_info >= (3, 11), version, "" if sys.version_info >= (3, 11) else "use 3.11 or newer"
    )


def _state() -> Finding:
    from windward.cluster.store import Store
    from windward.service.local import state_home

    home = state_home()
    fix = "make it a folder that you may write, or set WINDWARD_HOME"
    parent = next(p for p in (home, *home.parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        return Finding("state", False, f"{home} cannot be written", fix)
    if (home / "local.db").exists():
        try:
            Store(home / "local.db").close()
        except Exception as e:
            return Finding("state", False, str(e), "move the file away, or set WINDWARD_HOME")
    return Finding("state", True, str(home))


def _extra(name: str, module: str, adds: str) -> Callable[[], Finding]:
    def check() -> Finding:
        there = importlib.util.find_spec(module) is not None
        fix = "" if there else f"pip install 'windward[{name}]' adds {adds}"
        return Finding(f"extra {name}", True if there else None, "installed" if there else "not installed", fix)

    return check


def _rapl() -> Finding:
    root = Path("/sys/class/powercap")
    counters = sorted(root.glob("intel-rapl:*/energy_uj")) if root.exists() else []
    if not counters:
        return Finding("meter rapl", None, "no counters: CPU energy is modelled, and said so")
    readable = os.access(counters[0], os.R_OK)
    fix = "" if readable else "counters are root's since CVE-2020-8694: grant read to your group, or run as root"
    return Finding(
        "meter rapl", readable or None, f"{len(counters)} counters, {'readable' if readable else 'not readable'}", fix
    )


def _nvml() -> Finding:
    if not Path("/proc/driver/nvidia").exists():
        return Finding("meter nvml", None, "no NVIDIA driver: no GPU to measure")
    there = importlib.util.find_spec("pynvml") is not None
    return Finding("meter nvml", there or None, "driver found", "" if there else "pip install 'windward[worker]'")


def _trace() -> Finding:
    from windward.grid.trace import TraceProvider

    zones = TraceProvider.bundled().zones()
    return Finding("carbon trace", True, f"bundled 2022 trace, {len(zones)} zones: demonstration data")


def _neso() -> Finding:
    from windward.grid.neso import NesoProvider
    from windward.grid.port import ProviderError
    from windward.service.clock import SystemClock

    clock = SystemClock()
    try:
        series = NesoProvider(clock, total_s=4.0).issue("GB", clock.now())
    except ProviderError as e:
        return Finding("carbon neso", None, f"GB live data cannot be had: {e.cause}", "needed for --provider neso only")
    return Finding("carbon neso", True, f"GB live, to {series.end:%m-%d %H:%MZ}")


def _cluster(context: str, kubeconfig: Path | None) -> Finding:
    named = bool(context) or kubeconfig is not None
    if not named and not os.environ.get("KUBECONFIG") and not (Path.home() / ".kube" / "config").exists():
        return Finding("cluster", None, "no kubeconfig: this machine only")
    if importlib.util.find_spec("kubernetes") is None:
        return Finding("cluster", None, "a kubeconfig, but no client", "pip install 'windward[operator]'")
    from windward.cluster.kube_api import Api, connect
    from windward.cluster.port import ClusterError

    try:
        path = str(kubeconfig) if kubeconfig is not None else None
        regions = Api(connect(path, context or None)).items("/apis/windward.dev/v1alpha1/greenregions")
    except ClusterError as e:
        return Finding("cluster", False, str(e)[:120], "install the chart: helm install windward charts/windward")
    return Finding("cluster", True, f"{len(regions)} GreenRegions")


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _state,
    _extra("operator", "kopf", "the operator and the Kubernetes client"),
    _extra("worker", "torch", "training and inference with the shared runtime"),
    _rapl,
    _nvml,
    _trace,
    _neso,
)
