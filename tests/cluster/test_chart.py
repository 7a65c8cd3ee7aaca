"""The chart before a real API server."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.images import CHART
from cluster.kube import Helm, Kube
from cluster.kube.helm import HelmFailed
from cluster.kube.node import Node

pytestmark = pytest.mark.cluster

VALUES = Path(__file__).resolve().parents[1] / "chart" / "values"
VALUE_SETS = sorted(file.stem for file in VALUES.glob("*.yaml"))


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_api_server_takes_every_value_set(helm: Helm, kube: Kube, release: str, name: str) -> None:
    for namespace in ("elsewhere", "team-a", "team-b"):
        kube.namespace(namespace)
    # Not where the release is: what is applied over it would be mixed with what it says.
    text = helm.template(CHART, "--values", VALUES / f"{name}.yaml", namespace="elsewhere")
    objects = [one for one in yaml.safe_load_all(text) if one and one["kind"] != "ServiceMonitor"]
    for pod in (one for one in objects if one["kind"] == "Pod"):
        pod["spec"]["serviceAccountName"] = "default"  # its own is made by the same hook: a dry run has none
    # Strict, so that a field in the wrong place is refused; warnings are of use to nobody later.
    assert kube.apply(*objects, dry_run=True) == ""


def test_the_policies_are_sound_for_their_kinds(kube: Kube, release: str) -> None:
    """The API server checks every expression against the CRD's own types."""

    def judged(found: dict[str, Any]) -> bool:
        return "typeChecking" in found.get("status", {})

    names = [one["metadata"]["name"] for one in kube.list("validatingadmissionpolicies")]
    assert len([name for name in names if name.startswith("windward-system-windward-")]) == 4
    for name in names:
        found = kube.wait("validatingadmissionpolicy", name, judged, 30)
        assert found["status"]["typeChecking"].get("expressionWarnings", []) == []


def test_a_release_can_change_its_mind(helm: Helm, kube: Kube, release: str) -> None:
    """An upgrade takes away what the values before it said."""
    secret = {"secretKeyRef": {"name": "windward-book", "key": "dsn"}}

    def database() -> dict[str, Any]:
        (one,) = kube.must_get("deployment", "windward", "windward-system")["spec"]["template"]["spec"]["containers"]
        return {entry["name"]: entry for entry in one["env"]}["WINDWARD_DATABASE_URL"]

    for name in ("postgres", "existing-claim", "default"):
        helm.install(
            release, CHART, "windward-system", "--reset-values", "--values", VALUES / f"{name}.yaml", wait=False
        )
        assert (database().get("valueFrom") == secret) is (name == "postgres")


def test_the_installed_operator_proves_itself(helm: Helm, kube: Kube, nodes: dict[str, Node], release: str) -> None:
    """Under the chart's own role, restrictions and read-only file system, as a pod on a node."""
    kube.kubectl(
        "label", "--overwrite", "namespace", "windward-system", "pod-security.kubernetes.io/enforce=restricted"
    )
    kube.wait("deployment", "windward", lambda one: one["status"].get("availableReplicas") == 1, 120, "windward-system")
    try:
        helm.test(release, "windward-system")
    except HelmFailed as failed:
        raise AssertionError(f"{failed}\n{kube.diagnose('windward-system')}") from None
    (pod,) = kube.list("pods", "windward-system", "app.kubernetes.io/name=windward")
    assert [one["restartCount"] for one in pod["status"]["containerStatuses"]] == [0], kube.diagnose("windward-system")
    url = f"http://{pod['status']['podIP']}:8080"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/metrics", timeout=10) as answer:
        assert b"windward_" in answer.read()


def test_crds_and_jobs_outlive_the_release(helm: Helm, kube: Kube, release: str) -> None:
    helm.uninstall(release, "windward-system")
    try:
        assert kube.get("crd", "greenjobs.windward.dev") is not None
        assert kube.get("deployment", "windward", "windward-system") is None
    finally:
        helm.install(release, CHART, "windward-system", wait=False)


def test_the_operator_s_account_may_do_its_work_and_no_more(kube: Kube, release: str) -> None:
    account = kube.as_user("system:serviceaccount:windward-system:windward", "system:authenticated")
    assert account.can("create", "jobs.batch", "team-a")
    assert account.can("patch", "greenregions.windward.dev", subresource="status")
    for verb, resource in (("get", "secrets"), ("create", "pods"), ("delete", "jobs.batch"), ("update", "nodes")):
        assert not account.can(verb, resource, "team-a")
