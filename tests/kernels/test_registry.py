"""The backend is chosen once, by device; the environment can force the reference."""

import pytest
import torch

from windward_kernels import Cost, op, registry


@pytest.fixture
def fresh(monkeypatch):
    """The choice of device, forgotten before and after."""
    registry.device.cache_clear()
    before = dict(registry.REGISTRY)
    yield monkeypatch
    registry.device.cache_clear()
    registry.REGISTRY.clear()
    registry.REGISTRY.update(before)


def made():
    @op(cost=lambda x: Cost(1, 1))
    def twice(x: float) -> str:
        return "reference"

    twice.fast("old", "cpu", "cuda")(lambda x: "old")
    twice.fast("new", "cpu", "cuda")(lambda x: "new")
    twice.fast("elsewhere", "mars")(lambda x: "elsewhere")
    return twice


def test_the_last_registered_path_for_the_device_runs(fresh):
    fresh.delenv(registry.ENV_BACKEND, raising=False)
    assert made()(1.0) == "new"
    assert registry.device() == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_reference_can_be_forced(fresh):
    fresh.setenv(registry.ENV_BACKEND, "reference")
    assert made()(1.0) == "reference"


def test_an_unknown_backend_is_named(fresh):
    fresh.setenv(registry.ENV_BACKEND, "fastest")
    with pytest.raises(ValueError, match=r"WINDWARD_KERNELS='fastest'.*auto or reference"):
        made()(1.0)
