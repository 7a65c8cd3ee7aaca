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


def halved(lie):
    """An op with a foreign path that is right but for what `lie` does to its answers, and a path of ours below it."""

    def probe():
        for width in (0, 1, 3):
            yield (torch.arange(2.0 * width).reshape(2, width),), {}

    @op(cost=lambda x: Cost(1, 1), probe=probe)
    def half(x: torch.Tensor) -> torch.Tensor:
        return x / 2

    half.fast("ours", "cpu", "cuda")(lambda x: x * 0.5)
    half.fast("torch-theirs", "cpu", "cuda")(lambda x: lie(x * 0.5))
    return half


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (lambda y: y, None),
        (lambda y: y * 1e5 if y.shape[1] == 1 else y, "off by 5.0e+04 for arguments of (2, 1)"),
        (lambda y: y * float("nan") if y.shape[1] == 1 else y, "off by nan"),
        (lambda y: y[:1], "(1, 0) torch.float32 instead of (2, 0)"),
        (lambda y: y.double(), "torch.float64 instead of"),
        (lambda y: y.no_such_thing, "AttributeError"),
    ],
    ids=["true", "garbage for one column", "NaN", "shape", "type", "raises"],
)
def test_a_foreign_path_is_proven_before_it_runs(fresh, caplog, lie, told):
    """torch's integer product was garbage for one column: such a path is passed over, once and with a warning."""
    fresh.delenv(registry.ENV_BACKEND, raising=False)
    half, before = halved(lie), torch.get_rng_state()
    assert half.path()[0] == half.path()[0] == ("torch-theirs" if told is None else "ours")
    assert torch.equal(half(torch.ones(2, 1)), torch.full((2, 1), 0.5))
    assert torch.equal(before, torch.get_rng_state()), "training draws the same numbers as without"
    assert len(caplog.records) == (told is not None) and (told or "") in caplog.text


def test_the_reference_can_be_forced(fresh):
    fresh.setenv(registry.ENV_BACKEND, "reference")
    assert made()(1.0) == "reference"


def test_an_unknown_backend_is_named(fresh):
    fresh.setenv(registry.ENV_BACKEND, "fastest")
    with pytest.raises(ValueError, match=r"WINDWARD_KERNELS='fastest'.*auto or reference"):
        made()(1.0)
