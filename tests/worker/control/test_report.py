"""A report always fits, and its joules always add up."""

import json
import math
import random
from datetime import UTC, datetime

import pytest

from windward_api.contract import (
    REPORT_LIMIT_BYTES,
    EnergyComponent,
    EnergySeries,
    Method,
    Outcome,
    Progress,
    Report,
)
from windward_worker.control import (
    PauseRequest,
    ProgressFile,
    encode_report,
    read_progress,
    read_report,
    widen,
    write_report,
)
from windward_worker.control.report import short
from windward_worker.execution.run import Run

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def series(*tracks, step_s=1.0):
    names = ("cpu", "gpu", "dram", "other")
    components = tuple(
        EnergyComponent(name=name, method=Method.MEASURED, source="rapl", joules=tuple(joules))
        for name, joules in zip(names, tracks, strict=False)
    )
    return EnergySeries(start=START, step_s=step_s, components=components)


def report(energy=None, **more):
    return Report(**{"outcome": Outcome.PAUSED, "progress": Progress(fraction=0.5), "energy": energy, **more})


def draws(steps, scale, seed=1):
    dice = random.Random(seed)
    return [dice.random() * scale for _ in range(steps)]


@pytest.mark.parametrize(
    "tracks",
    [
        [[1.0]],
        [[0.0, 0.0, 0.0]],
        [draws(50, 4.2)],
        [draws(4096, 4.2)],
        [draws(4096, 700.0), draws(4096, 1e-4), draws(4000, 90.0), draws(1, 5e8)],
        [[1e9 / 7] * 3000],
        [[1e-9] * 3000],
        [[0.1] * 1000, [], [5.0]],
    ],
    ids=["one", "zeros", "short", "long", "four", "large", "tiny", "uneven"],
)
def test_it_fits_and_keeps_every_sum(tracks):
    given = series(*tracks)
    data = encode_report(report(given, message="x" * 512, checkpoint="c" * 128))
    assert len(data) <= REPORT_LIMIT_BYTES
    kept = Report.model_validate_json(data).energy
    assert kept.start == START
    for before, after in zip(given.components, kept.components, strict=True):
        assert sum(after.joules) == pytest.approx(sum(before.joules), rel=1e-12, abs=1e-12)
        assert min(after.joules, default=0) >= 0


def test_the_step_is_widened_no_more_than_needed():
    given = series(draws(3000, 4.2))
    data = encode_report(report(given))
    kept = Report.model_validate_json(data).energy
    factor = kept.step_s / given.step_s
    assert factor == int(factor) > 1
    assert len(kept.components[0].joules) == math.ceil(3000 / factor)
    assert len(data) > 0.8 * REPORT_LIMIT_BYTES  # coarser would waste the room


def test_a_short_series_is_not_widened():
    kept = Report.model_validate_json(encode_report(report(series([1.0, 2.0, 3.5])))).energy
    assert kept.step_s == 1.0 and kept.components[0].joules == (1.0, 2.0, 3.5)


def test_each_step_stays_in_its_time():
    """Energy of the second half may not appear in the first."""
    kept = Report.model_validate_json(encode_report(report(series([0.0] * 2048 + [3.3] * 2048)))).energy
    joules = kept.components[0].joules
    half = int(2048 / kept.step_s)
    assert sum(joules[:half]) == 0 and sum(joules) == pytest.approx(2048 * 3.3)


def test_words_give_way_to_energy():
    progress = Progress(fraction=1, metrics={f"metric_{i}".ljust(64, "x"): i / 7 for i in range(300)})
    data = encode_report(report(series([1.0] * 9), progress=progress, message="\u20ac" * 512, checkpoint="c" * 128))
    kept = Report.model_validate_json(data)
    assert len(data) <= REPORT_LIMIT_BYTES
    assert kept.energy.total_j == 9 and kept.progress.fraction == 1 and kept.progress.metrics == {}
    assert kept.checkpoint == "c" * 128


@pytest.mark.parametrize(("factor", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [3, 7, 5]), (5, [15]), (9, [15])])
def test_widening_sums_neighbouring_steps(factor, expected):
    assert widen([1, 2, 3, 4, 5], factor) == expected


def test_it_is_written_in_place(tmp_path):
    """Kubernetes mounts the very file: a replaced inode would never be read."""
    path = tmp_path / "termination-log"
    path.write_text("x" * 9000)
    inode = path.stat().st_ino
    write_report(path, report())
    assert path.stat().st_ino == inode and read_report(path) == report()
    write_report(None, report())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"outcome": "Odd"}', b"\xff\xfe", b"null"])
def test_what_is_no_report_reads_as_none(tmp_path, content):
    path = tmp_path / "report"
    path.write_bytes(content)
    assert read_report(path) is None and read_progress(path) is None
    assert read_report(tmp_path / "absent") is None and read_report(None) is None


def test_progress_is_written_at_most_once_in_a_while(tmp_path):
    file = ProgressFile(tmp_path / "progress", every_s=3600)
    for done in range(5):
        file.write(Progress(fraction=done / 10))
    assert json.loads((tmp_path / "progress").read_text())["fraction"] == 0.0
    assert not file.due()
    file.write(Progress(fraction=1), last=True)
    assert read_progress(tmp_path / "progress").fraction == 1
    assert [p.name for p in tmp_path.iterdir()] == ["progress"]


NAN, INF = float("nan"), float("inf")
BEGUN = "2026-05-11T06:00:00Z"


def fragment(**changes):
    """A report whose energy or progress holds what no arithmetic survives, made past the contract's checks."""
    series = {"start": BEGUN, "step_s": 1.0, "components": [component([1.0, 2.0])], **changes.pop("energy", {})}
    parts = tuple(EnergyComponent.model_construct(**c) for c in series.pop("components"))
    start = datetime.fromisoformat(series.pop("start"))
    return Report.model_construct(
        outcome=Outcome.SUCCEEDED,
        run_units=changes.pop("run_units", 3.0),
        message=changes.pop("message", ""),
        energy=EnergySeries.model_construct(start=start, components=parts, **series),
        progress=Progress.model_construct(**{"fraction": 0.5, "units_done": 3.0, "unit": "token", **changes}),
    )


def component(joules, name="cpu"):
    return {"name": name, "method": Method.MODELLED, "source": "x", "joules": tuple(joules)}


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"metrics": {"loss": NAN, "rate": 2.0, "high": INF, "low": -INF}}, "metrics"),
        ({"units_done": INF}, "units"),
        ({"energy_j": INF}, "energy_j"),
        ({"run_units": INF}, "run_units"),
        ({"energy": {"step_s": 1e308}}, "energy"),
        ({"energy": {"step_s": INF}}, "energy"),
        ({"energy": {"step_s": 1e-12}}, "energy"),
        ({"energy": {"start": "9999-12-31T23:59:59Z"}}, "energy"),
        ({"energy": {"start": "0001-01-01T00:00:00Z"}}, "energy"),
        ({"energy": {"components": [component([INF])]}}, "energy"),
        ({"energy": {"components": [component([1e308, 1e308])]}}, "energy"),
        ({"energy": {"components": [component([1.0, 2.0]), component([INF], "gpu")]}}, "gpu"),
    ],
)
def test_a_report_holds_finite_numbers_alone(tmp_path, changes, lost):
    """NaN is no JSON; one such report stopped a whole control plane."""
    path = tmp_path / "report"
    write_report(path, fragment(**changes))
    document = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} in a report"))
    back = read_report(path)
    assert back is not None and document["outcome"] == "Succeeded"
    assert document["progress"]["fraction"] == 0.5
    gone = {
        "metrics": document["progress"]["metrics"] == {"rate": 2.0},
        "units": document["progress"]["units_done"] == 0,
        "energy_j": "energy_j" not in document["progress"],
        "run_units": document["run_units"] == 0,
        "energy": "energy" not in document,
        "gpu": [c["name"] for c in document.get("energy", {}).get("components", [])] == ["cpu"],
    }
    assert gone[lost] and (lost in ("energy", "gpu") or back.energy.total_j == 3.0)


def test_live_progress_holds_finite_numbers_alone(tmp_path):
    path = tmp_path / "progress"
    progress = Progress(fraction=0.5, units_done=1, metrics={"loss": NAN, "rate": 2.0})
    ProgressFile(path).write(progress, last=True)
    assert "NaN" not in path.read_text() and read_progress(path).metrics == {"rate": 2.0}
    path.write_text('{"fraction": 0.5, "metrics": {"loss": NaN, "rate": 2.0}}')
    found = read_progress(path)
    assert found is None or found.metrics == {"rate": 2.0}


def test_whatever_is_in_it_a_report_fits():
    many = [component([1.0] * 50, f"c{i}") for i in range(16)]
    metrics = {f"metric-{i}": float(i) for i in range(500)}
    report = fragment(message="\u0000é" * 250, metrics=metrics, energy={"components": many})
    data = encode_report(report)
    assert len(data) <= 4096
    back = Report.model_validate_json(data)
    assert back.energy.total_j == pytest.approx(16 * 50) and back.progress.fraction == 0.5
    assert back.energy.step_s * len(back.energy.components[0].joules) == pytest.approx(50.0)


def test_a_message_may_quote_what_is_no_text(world):
    """A name of a file in another encoding: the report that should have told of it was lost."""
    with Run(world.env, PauseRequest(), "token") as run:
        run.report(Outcome.FAILED, "caf\udce9 is missing")
    assert world.report.message.startswith("caf\\udce9 is missing") and world.report.outcome == Outcome.FAILED
    assert short("a\udce9b" * 300) == ("a\\udce9b" * 300)[:512]
