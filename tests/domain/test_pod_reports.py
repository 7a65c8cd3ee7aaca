"""Reports of several pods as one: no joule is lost, none is invented, and nobody's silence counts as zero energy."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windward.domain.pod_reports import PodReport, combined, summed
from windward_api.contract import MOST_STEPS, EnergyComponent, EnergySeries, Outcome, Progress, Report

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
NAMES = ("cpu", "gpu", "dram")


def series(start_s=0.0, step_s=60.0, **joules):
    parts = tuple(EnergyComponent(name=n, method="measured", source="rapl", joules=tuple(j)) for n, j in joules.items())
    return EnergySeries(start=NOON + timedelta(seconds=start_s), step_s=step_s, components=parts)


def report(fraction=None, energy=None, outcome="Paused", **more):
    progress = Progress(fraction=fraction, unit="token", units_done=10) if fraction is not None else None
    return Report(outcome=outcome, progress=progress, energy=energy, **more)


def pod(code=75, of=None, slot="", ran=True):
    pod.count += 1
    return PodReport(slot or f"uid-{pod.count}", code, ran, of)


pod.count = 0

SERIES = st.builds(
    lambda start, step, parts: series(start, step, **parts),
    st.floats(0, 5e5), st.floats(1e-3, 7200),
    st.dictionaries(
        st.sampled_from(NAMES), st.lists(st.floats(0, 1e9), min_size=1, max_size=60), min_size=1, max_size=3
    ),
)  # fmt: skip


@given(st.lists(SERIES, min_size=1, max_size=6))
def test_all_joules_are_kept_whatever_the_starts_and_steps(several):
    total = summed(several)
    assert total.total_j == pytest.approx(sum(s.total_j for s in several), rel=1e-9, abs=1e-9)
    for name in NAMES:
        before = sum(sum(c.joules) for s in several for c in s.components if c.name == name)
        after = sum(sum(c.joules) for c in total.components if c.name == name)
        assert after == pytest.approx(before, rel=1e-9, abs=1e-9)
    assert total.step_s >= max(s.step_s for s in several)
    assert all(len(c.joules) <= MOST_STEPS for c in total.components)


def test_a_step_that_lies_in_two_is_divided_by_time():
    total = summed([series(0, 60, cpu=[60, 60]), series(45, 30, cpu=[30, 30])])
    assert (total.start, total.step_s) == (NOON, 60)
    assert total.components[0].joules[:3] == pytest.approx((60 + 15, 60 + 15 + 30, 0))


def test_of_two_methods_the_weakest_holds_and_both_sources_are_named():
    weak = EnergyComponent(name="cpu", method="modelled", source="model:cpu-time", joules=(1.0,))
    other = EnergySeries(start=NOON, step_s=60, components=(weak,))
    (component,) = summed([series(cpu=[1.0]), other]).components
    assert (component.method, component.source) == ("modelled", "rapl+model:cpu-time")


def test_more_components_than_a_report_holds_are_added_up_as_other():
    many = [series(**{f"c{i}": [1.0]}) for i in range(20)]
    total = summed(many)
    assert len(total.components) == 16 and total.total_j == pytest.approx(20)
    assert {c.name: sum(c.joules) for c in total.components}["other"] == pytest.approx(5)


def test_the_report_of_a_single_pod_is_the_runs():
    only = report(0.3, series(cpu=[1.0]), checkpoint="c", message="m")
    assert combined([pod(of=only)], 1) is only


@pytest.mark.parametrize(
    ("pods", "expected", "fraction"),
    [
        ([pod(of=report(0.2)), pod(of=report(0.6))], 2, 0.4),
        ([pod(of=report(0.2)), pod(of=report(0.6))], 4, 0.2),  # two have not begun
        ([pod(0), pod(of=report(0.5))], 2, 0.75),  # what ended with 0 is done
        ([pod(143), pod(of=report(0.5))], 2, 0.25),  # what says nothing has done nothing
        ([pod(1, report(0.9), "a"), pod(75, report(0.1), "a"), pod(0, slot="b")], 2, 0.55),  # the last of a slot
        ([pod(0), pod(75, report())], 2, None),  # nobody reports progress
        ([pod(143), pod(75)], 2, None),
    ],
)
def test_progress_is_the_mean_over_the_expected_pods(pods, expected, fraction):
    whole = combined(pods, expected)
    told = whole.progress.fraction if whole is not None and whole.progress is not None else None
    assert told == (pytest.approx(fraction) if fraction is not None else None)


def test_work_is_summed_and_messages_joined():
    whole = combined([pod(of=report(0.5, run_units=3, message="a")), pod(of=report(0.5, run_units=4, message="b"))], 2)
    assert (whole.run_units, whole.progress.units_done, whole.progress.unit) == (7, 20, "token")
    assert (whole.message, whole.outcome) == ("a; b", Outcome.PAUSED)


def test_energy_that_a_pod_did_not_report_is_not_taken_for_none():
    metered = report(0.5, series(cpu=[5.0]))
    assert combined([pod(of=metered), pod(of=metered)], 2).energy.total_j == pytest.approx(10)
    partly = combined([pod(of=metered), pod(of=report(0.5))], 2)
    assert partly.energy is None
    assert partly.message == "1 of 2 pods reported no energy: declared watts count"
    assert combined([pod(of=metered), pod(-1, ran=False)], 2).energy.total_j == pytest.approx(5)
