"""A cluster for the whole session and a namespace for each test.

`WINDWARD_TEST_KUBECONFIG` names a cluster to use instead; then tests that need our own nodes do not run. What this
machine cannot do is skipped with its reason, and is a failure where `CI` or `WINDWARD_NO_SKIP` is set.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.images import CHART, built_images, chart_images
from cluster.kube import Cluster, ExistingCluster, Helm, Kube, RunningEngines, Unavailable, binaries, engine_binaries
from cluster.kube.node import Node
from skips import unavailable

RELEASE_NAMESPACE = "windward-system"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of job engines come last: on a machine without Go's caches the engines are being built meanwhile."""
    here = Path(__file__).parent
    items.sort(key=lambda one: here in one.path.parents and "engines" in getattr(one, "fixturenames", ()))


@pytest.fixture(scope="session")
def kube_binaries() -> Path:
    try:
        return binaries()
    except Unavailable as why:
        unavailable("cluster", why)


@pytest.fixture(scope="session")
def any_cluster(kube_binaries: Path) -> Iterator[Cluster | ExistingCluster]:
    """Ours, or the one that was given."""
    if given := os.environ.get("WINDWARD_TEST_KUBECONFIG"):
        yield ExistingCluster(Path(given), kube_binaries)
        return
    try:
        cluster = Cluster(kube_binaries, [*chart_images(), *built_images()]).__enter__()
    except Unavailable as why:
        unavailable("cluster", why)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def cluster(any_cluster: Cluster | ExistingCluster) -> Cluster:
    """Ours; for tests that join nodes to it."""
    if not isinstance(any_cluster, Cluster):
        unavailable("own cluster", "WINDWARD_TEST_KUBECONFIG names another")
    return any_cluster


@pytest.fixture(scope="session")
def engines(cluster: Cluster) -> RunningEngines:
    """Real JobSet, Trainer and Kueue in our cluster."""
    try:
        return RunningEngines(cluster, engine_binaries())
    except Unavailable as why:
        unavailable("cluster", why)


@pytest.fixture(scope="session")
def kube(any_cluster: Cluster | ExistingCluster) -> Kube:
    return any_cluster.kube


@pytest.fixture(scope="session")
def helm(any_cluster: Cluster | ExistingCluster) -> Helm:
    return any_cluster.helm


@pytest.fixture(scope="session")
def nodes(cluster: Cluster) -> dict[str, Node]:
    """Two real nodes, each a region: `north` and `central`."""
    try:
        return {name: cluster.nodes.get(name) or cluster.node(name) for name in ("north", "central")}
    except Unavailable as why:
        unavailable("cluster", why)


@pytest.fixture(scope="session")
def release(kube: Kube, helm: Helm) -> Iterator[str]:
    """The chart as a user installs it, in namespace `windward-system`; the operator's pod may not be up yet."""
    helm.install("windward", CHART, RELEASE_NAMESPACE, wait=False)
    yield "windward"
    helm.uninstall("windward", RELEASE_NAMESPACE)


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """A namespace of this test only."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    kube.namespace(name)
    yield name
    kube.delete("namespace", name, wait=False)
