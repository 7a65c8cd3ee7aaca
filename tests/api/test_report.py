"""What a container says of itself: a part that is out of bounds is set aside and named, the other parts count."""

import copy
import json
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windward_api.contract import heard, printable

SOUND = {
    "version": 1,
    "outcome": "Succeeded",
    "progress": {"fraction": 1.0, "units_done": 5, "unit": "token", "metrics": {"loss": 1.0}},
    "energy": {
        "start": "2026-01-01T00:00:00Z",
        "step_s": 1.0,
        "components": [{"name": "cpu", "method": "measured", "source": "rapl", "joules": [1, 2]}],
    },
    "message": "done",
}


def changed(path, value):
    out = copy.deepcopy(SOUND)
    *parents, last = path
    node = out
    for part in parents:
        node = node[part]
    node[last] = value
    return json.dumps(out)


STEP, START, JOULES = ("energy", "step_s"), ("energy", "start"), ("energy", "components", 0, "joules")
UNITS, FRACTION = ("progress", "units_done"), ("progress", "fraction")


@pytest.mark.parametrize(
    ("path", "value", "lost"),
    [
        (STEP, 1e308, "energy"), (STEP, 1e-12, "energy"), (STEP, 1e11, "energy"), (STEP, 0, "energy"),
        (STEP, float("nan"), "energy"), (STEP, "x", "energy"), (START, "9999-12-31T23:59:59Z", "energy"),
        (START, "1970-01-01T00:00:00Z", "energy"), (START, "2026-01-01T00:00:00", "energy"), (START, None, "energy"),
        (JOULES, [float("inf")], "energy"), (JOULES, [1e308, 1e308], "energy"), (JOULES, [-1], "energy"),
        (JOULES, [float("nan")], "energy"), (JOULES, {}, "energy"),
        (("energy", "components"), [{}] * 100, "energy"), (("energy",), [], "energy"),
        (UNITS, float("inf"), "progress"), (UNITS, 5e-324, "progress"), (UNITS, 10**400, "progress"),
        (UNITS, -1, "progress"), (FRACTION, 2, "progress"), (FRACTION, float("nan"), "progress"),
        (("progress", "unit"), "x" * 99, "progress"), (("run_units",), float("inf"), "run_units"),
        (("checkpoint",), "c" * 200, "checkpoint"), (("message",), 5, "message"),
    ],
)  # fmt: skip
def test_one_bad_part_costs_its_report_nothing_else(path, value, lost):
    words = heard(changed(path, value))
    (said,) = words.set_aside
    assert said.startswith(lost) and words.report is not None and words.report.outcome == "Succeeded"
    kept = {"energy": words.report.energy, "progress": words.report.progress}
    assert all(part is not None for name, part in kept.items() if name != lost)
    assert all(part is None for name, part in kept.items() if name == lost)


def test_a_loss_that_became_nan_costs_only_itself():
    words = heard(changed(("progress", "metrics"), {"loss": float("nan"), "tokens": 3.0}))
    assert words.set_aside == () and words.report.progress.metrics == {"tokens": 3.0}


@pytest.mark.parametrize(
    ("path", "text", "kept"),
    [
        (("progress", "unit"), "\x1b]52;c;ZXZpbA==\x07", "\ufffd]52;c;ZXZpbA==\ufffd"),
        (("message",), "a\x00b\n  c", "a\ufffdb c"),
        (("message",), "\u202egnp.exe", "\ufffdgnp.exe"),
        (("energy", "components", 0, "source"), "a\x00b", "a\ufffdb"),
    ],
)
def test_text_of_a_container_has_no_control_characters(path, text, kept):
    report = heard(changed(path, text)).report
    said = (report.progress.unit, report.message, report.energy.components[0].source)
    assert kept in said and printable("".join(said)) == "".join(said)


@pytest.mark.parametrize(
    "text", ["", "Killed", "[]", '"x"', "{}", '{"outcome": 3}', '{"version": 2, "outcome": "Failed"}', "[" * 10_000]
)
def test_what_is_no_report_says_nothing(text):
    assert heard(text).report is None


@given(st.binary(max_size=4096))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_heard_without_harm(data):
    heard(data)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["1970", 1e308]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["start", "joules", "fraction"]), inner)
    ),
    max_leaves=8,
)


@given(part=st.sampled_from(["progress", "energy", "run_units", "message", "checkpoint", "more"]), value=ANY)
@settings(max_examples=500, deadline=None)
def test_any_json_in_any_part_leaves_numbers_that_can_be_summed(part, value):
    report = heard(json.dumps({**SOUND, part: value})).report
    if report is not None:
        json.loads(report.model_dump_json())
        assert report.energy is None or (report.energy.total_j < 1e23 and isinstance(report.energy.start, datetime))
