"""`windward-operator check`: does a GreenJob get a plan? Run by `helm test`, in the release's namespace."""

from __future__ import annotations

import os
import sys
import uuid
from typing import Any

from windward.cluster.kube_api import Api, connect
from windward.cluster.port import ClusterError
from windward.service.clock import SystemClock

PATH = "/apis/windward.dev/v1alpha1"
PATIENCE_S = 60


def check(namespace: str | None = None) -> int:
    """Create a held GreenJob, wait until the operator accepted it, delete it. 0: all is well."""
    namespace = namespace or os.environ.get("POD_NAMESPACE", "default")
    try:
        api = Api(connect())
        regions = api.items(f"{PATH}/greenregions")
        return _try(api, namespace, [r["metadata"]["name"] for r in regions])
    except ClusterError as e:
        sys.stderr.write(f"error: {e}\nfix: see the operator's log, and its role\n")
        return 1


def _try(api: Api, namespace: str, regions: list[str]) -> int:
    name = f"windward-check-{uuid.uuid4().hex[:8]}"
    path = f"{PATH}/namespaces/{namespace}/greenjobs"
    api.post(path, _job(name, namespace, regions))
    try:
        reason = _wait(api, f"{path}/{name}")
    finally:
        api.delete(f"{path}/{name}")
    if reason is None:
        sys.stderr.write(f"error: no answer from the operator within {PATIENCE_S} s\nfix: see the operator's log\n")
        return 1
    sys.stdout.write(f"ok: the operator accepted a GreenJob ({reason}); {len(regions)} GreenRegions\n")
    return 0


def _job(name: str, namespace: str, regions: list[str]) -> dict[str, Any]:
    """A GreenJob that is held, so that nothing runs."""
    places = regions or ["none-yet"]
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "completeWithin": "24h",
            "duration": "1h",
            "suspend": True,
            "placement": {"regions": places, "home": places[0]},
            "template": {"spec": {"containers": [{"name": "none", "image": "none"}]}},
        },
    }


def _wait(api: Api, path: str) -> str | None:
    clock = SystemClock()
    for _ in range(2 * PATIENCE_S):
        conditions = (api.get(path).get("status") or {}).get("conditions") or []
        for c in conditions:
            if c["type"] == "Accepted":
                return str(c["reason"])
        clock.sleep(0.5)
    return None
