"""The chart as Helm renders it."""

from __future__ import annotations

import pytest
from cluster.kube import Helm, Unavailable, binaries
from skips import unavailable


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    try:
        return Helm(binaries() / "helm", None, home=tmp_path_factory.mktemp("helm"))
    except Unavailable as why:
        unavailable("cluster", why)
