"""What a local command says of itself is bounded as in a pod: nothing of it stops, or falsifies, anything."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from service.world import T0, job_body

from windward.cluster.local import LocalCluster
from windward.cluster.store import Store
from windward.domain.clock import FixedClock
from windward.manifests import RunFacts
from windward_api.greenregion import GreenRegion

REGION = GreenRegion.model_validate({"metadata": {"name": "south"}, "spec": {"gridZone": "DE"}})


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A cluster with one run that has ended, and the run's folder."""
    home = tmp_path_factory.mktemp("home")
    store, clock = Store(home / "local.db"), FixedClock(T0)
    body = job_body()
    body["metadata"]["namespace"] = "default"
    store.apply(body, T0)
    cluster = LocalCluster(store, home, clock, clock)
    (seen,) = cluster.snapshot().jobs
    cluster.claim_attempt(seen, 1, "south")
    (seen,) = cluster.snapshot().jobs
    cluster.create_run(RunFacts(seen.job, 1, REGION))
    for child in list(cluster.supervisors.children.values()):
        child.wait()
    (folder,) = (home / "runs").iterdir()
    yield cluster, folder
    cluster.close()
    store.close()


def told(ended, report=None, progress=None):
    cluster, folder = ended
    (folder / "report.json").write_bytes(report or b"")
    (folder / "progress.json").write_bytes(progress or b"")
    (seen,) = cluster.snapshot().jobs
    return seen.runs[0]


def test_an_energy_that_cannot_be_is_set_aside_and_told(ended):
    parts = [{"name": "cpu", "method": "measured", "source": "rapl", "joules": [1e12]}]
    body = {"outcome": "Succeeded", "energy": {"start": "2026-03-02T06:00:00Z", "step_s": 1.0, "components": parts}}
    run = told(ended, json.dumps(body).encode())
    assert run.report.energy is None and "more than its hardware can draw" in run.message
    run = told(ended, json.dumps(body | {"run_units": float("inf")}).encode())
    assert "of its report was set aside: run_units" in run.message


@given(report=st.binary(max_size=600), progress=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_read_without_harm(ended, report, progress):
    assert told(ended, report, progress).attempt == 1
