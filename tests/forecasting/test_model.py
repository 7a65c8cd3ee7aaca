"""Our own forecaster: from the past alone, the same however it is fed, honest about what it does not know."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from forecasting.backtest import paths_g_per_kwh
from hypothesis import given, settings
from hypothesis import strategies as st

from windward.domain.quantiles import Quantiles
from windward.domain.series import Basis, Kind, MixedKinds, Quality, Scope, Series, Signal
from windward.forecasting import Model
from windward.forecasting.calibrate import EVERY, LEVELS
from windward.forecasting.model import FIRST_FIT, FORTNIGHT
from windward.forecasting.past import FIRST_ORIGIN, LEADS, Past, whole_hours

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
T0 = datetime(2022, 2, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def series(values, start=T0, step=HOUR, **more):
    said = {"quality": Quality.MEASURED, "source": "history", "issued_at": start, "zone": "DE", "kind": KIND, **more}
    return Series.regular(said.pop("zone"), said.pop("kind"), start, step, values, **said)


def grid(hours, seed=1):
    """Days, weekends and weather that comes and goes, in g/kWh."""
    dice = np.random.default_rng(seed)
    t = np.arange(hours)
    weather = np.zeros(hours)
    for i in range(1, hours):
        weather[i] = 0.97 * weather[i - 1] + dice.normal(0, 8)
    day = 60 * np.cos(2 * np.pi * (t - 19) / 24) + 25 * np.cos(4 * np.pi * (t - 8) / 24)
    return np.maximum(300 + day - 30 * (t // 24 % 7 >= 5) + weather, 5.0)


YEAR = grid(170 * 24)


@pytest.fixture(scope="module")
def model():
    return Model.of(series(YEAR))


def same(a, b):
    parts = ("gram", "moment", "coefficients")
    assert (a.first_hour, a.learnt, a.record.count) == (b.first_hour, b.learnt, b.record.count)
    assert np.array_equal(a.values_g_per_kwh, b.values_g_per_kwh)
    assert all(np.array_equal(getattr(a.ridge, p), getattr(b.ridge, p)) for p in parts)
    assert np.array_equal(a.record.quantiles, b.record.quantiles)


def test_in_portions_or_at_once_it_learns_the_same(model):
    fed = Model.of(series(YEAR[:100]))
    for end in (1000, 1001, 1500, 2600, 2601, 3900, len(YEAR)):
        fed = fed.learn(series(YEAR[max(end - 2000, 0) : end], T0 + max(end - 2000, 0) * HOUR))
    same(fed, model)


def test_the_same_input_gives_the_same_issue(model):
    now = T0 + len(YEAR) * HOUR
    once, twice = (m.forecast(series(YEAR), now, now + 7 * DAY) for m in (model, Model.of(series(YEAR))))
    assert (once.series, once.band) == (twice.series, twice.band)


@settings(max_examples=12, deadline=None)
@given(at=st.integers(FIRST_FIT, len(YEAR) - 1), seed=st.integers(0, 9))
def test_the_future_is_not_read(at, seed):
    start, now = T0, T0 + at * HOUR
    other = YEAR.copy()
    other[at:] = np.random.default_rng(seed).uniform(0, 2000, len(YEAR) - at)
    learnt = Model.of(series(YEAR[:FIRST_FIT], start))
    true, false = (learnt.forecast(series(v, start), now, now + 3 * DAY) for v in (YEAR, other))
    assert (true.series, true.band) == (false.series, false.band)


def test_many_origins_at_once_read_no_future_either():
    learnt = Model.of(series(YEAR[: 8 * FORTNIGHT]))
    origins = np.arange(learnt.learnt, learnt.learnt + FORTNIGHT, 5) + learnt.first_hour
    whole, bands = paths_g_per_kwh(learnt, series(YEAR), origins)
    for i in (0, 1, len(origins) // 2, len(origins) - 1):
        cut = series(YEAR[: int(origins[i]) - learnt.first_hour])
        alone, band = paths_g_per_kwh(learnt, cut, origins[i : i + 1])
        assert np.allclose(alone[0], whole[i], rtol=1e-9) and np.allclose(band[:, 0], bands[:, i], rtol=1e-9)


def test_an_issue_is_the_back_test_of_its_hour(model):
    now = T0 + len(YEAR) * HOUR
    issue = model.forecast(series(YEAR), now, now + 7 * DAY)
    paths, bands = paths_g_per_kwh(model, series(YEAR), np.array([int(now.timestamp() // 3600)]))
    assert np.array_equal(issue.series.intensity_g_per_kwh, paths[0])
    assert np.array_equal(issue.band.intensity_g_per_kwh, bands[:, 0])


def test_an_issue_says_what_it_is(model):
    now = T0 + (len(YEAR) - 2) * HOUR + timedelta(minutes=20)
    issue = model.forecast(series(YEAR), now, now + 2 * DAY)
    assert issue.series.start == now.replace(minute=0) and issue.series.end == now.replace(minute=0) + 2 * DAY + HOUR
    assert set(issue.series.quality) == {Quality.ESTIMATED}
    assert (issue.method, issue.series.source, issue.detail) == ("ridge+analog", "own:ridge+analog:history", "")
    assert np.array_equal(issue.band.edges, issue.series.edges) and issue.band.levels == LEVELS


def test_what_was_asked_before_changes_no_answer():
    """What a model keeps from one issue for the next one may save work, and nothing else."""
    asked, other = Model.of(series(YEAR[: 200 * 24])), YEAR[: 230 * 24].copy()
    other[201 * 24 :] *= 1.5  # another course of the newest days
    for history, day in ((YEAR, 203), (other, 204), (YEAR, 202), (YEAR, 209)):
        known = series(history[: day * 24])
        fresh = Model.of(series(YEAR[: 200 * 24])).forecast(known, known.end, known.end + 2 * DAY)
        again = asked.forecast(known, known.end, known.end + 2 * DAY)
        assert np.allclose(again.series.intensity_g_per_kwh, fresh.series.intensity_g_per_kwh, rtol=1e-9)
        assert np.allclose(again.band.intensity_g_per_kwh, fresh.band.intensity_g_per_kwh, rtol=1e-9)


def test_hours_known_late_are_bridged(model):
    now = T0 + (len(YEAR) + 5) * HOUR
    issue = model.forecast(series(YEAR), now, now + DAY)
    assert issue.series.start == now and issue.series.end == now + DAY
    assert issue.band.edges[0] == series(YEAR).edges[-1]


def test_beyond_a_week_its_last_day_is_repeated(model):
    now = T0 + len(YEAR) * HOUR
    values = model.forecast(series(YEAR), now, now + 9 * DAY).series.intensity_g_per_kwh
    assert len(values) == 9 * 24 and np.array_equal(values[LEADS:], np.tile(values[LEADS - 24 : LEADS], 2))


@pytest.mark.parametrize(
    ("days", "method", "told"),
    [(1, "day-before", False), (34, "day-before", False), (36, "prior", False), (56, "ridge+analog", False)],
)
def test_short_histories_degrade_and_say_so(days, method, told):
    history = series(YEAR[: days * 24])
    now = history.end
    issue = Model.of(history).forecast(history, now, now + DAY)
    assert (issue.method, issue.band is not None) == (method, told)
    assert bool(issue.detail) == (method != "ridge+analog")
    if method == "day-before":
        assert np.array_equal(issue.series.intensity_g_per_kwh, history.intensity_g_per_kwh[-24:])
    assert series(YEAR[: days * 24]).end == issue.series.start


def test_less_than_a_day_is_refused():
    history = series(YEAR[:20])
    with pytest.raises(ValueError):
        Model.of(history).forecast(history, history.end, history.end + DAY)


@pytest.mark.parametrize("level", [0.0, 24.0, 700.0])
def test_a_flat_zone_stays_flat(level):
    history = series(np.full(100 * 24, level))
    issue = Model.of(history).forecast(history, history.end, history.end + 3 * DAY)
    assert np.allclose(issue.series.intensity_g_per_kwh, level, atol=1e-6)
    assert np.allclose(issue.band.intensity_g_per_kwh, level, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.sampled_from(["jumps", "spikes", "zeros", "walk"]),
)
def test_never_negative_endless_or_out_of_order(seed, shape):
    dice = np.random.default_rng(seed)
    n = FIRST_FIT + 3 * FORTNIGHT + int(dice.integers(0, 400))
    values = {
        "jumps": lambda: np.repeat(dice.uniform(0, 1500, n // 50 + 1), 50)[:n],
        "spikes": lambda: 20 + 3000 * (dice.random(n) < 0.01),
        "zeros": lambda: np.where(dice.random(n) < 0.6, 0.0, dice.uniform(0, 900, n)),
        "walk": lambda: np.abs(np.cumsum(dice.normal(0, 20, n))),
    }[shape]()
    history = series(values)
    issue = Model.of(history).forecast(history, history.end, history.end + 7 * DAY)
    ahead = issue.series.intensity_g_per_kwh
    assert np.all(np.isfinite(ahead)) and np.all(ahead >= 0) and ahead.max() <= 1.5 * values.max() + 1e-6
    if issue.band is not None:
        assert isinstance(issue.band, Quantiles)  # its constructor checks the order


def test_the_unit_does_not_matter():
    history, tenfold = series(YEAR), series(10 * YEAR)
    a, b = (Model.of(h).forecast(h, h.end, h.end + DAY).series.intensity_g_per_kwh for h in (history, tenfold))
    assert np.allclose(10 * a, b, rtol=1e-6)


def test_clock_changes_shift_nothing():
    """The hours of the last Sunday of March and of another day are alike: only UTC counts."""
    summer, other = datetime(2022, 3, 27, tzinfo=UTC) - 60 * DAY, datetime(2022, 5, 8, tzinfo=UTC) - 60 * DAY
    histories = [series(YEAR[: 60 * 24], start) for start in (summer, other)]
    a, b = (Model.of(h).forecast(h, h.end, h.end + 2 * DAY).series.intensity_g_per_kwh for h in histories)
    assert np.array_equal(a, b)


def test_a_short_gap_is_bridged_and_a_long_one_begins_anew():
    first = series(YEAR[: 70 * 24])
    gone = Model.of(first).learn(series(YEAR[70 * 24 + 30 : 100 * 24], T0 + 70 * DAY + 30 * HOUR))
    assert gone.first_hour == Model.of(first).first_hour and gone.learnt == 98 * 24
    assert np.array_equal(gone.values_g_per_kwh[70 * 24 : 70 * 24 + 30], YEAR[63 * 24 : 63 * 24 + 30])
    later = series(YEAR[90 * 24 :], T0 + 90 * DAY)
    assert Model.of(first).learn(later).first_hour == int(later.edges[0] // 3600)


def test_what_was_learnt_of_the_future_is_no_forecast(model):
    assert model.learnt == len(YEAR) // FORTNIGHT * FORTNIGHT
    with pytest.raises(ValueError, match="learnt"):
        model.forecast(series(YEAR), T0 + 100 * DAY, T0 + 101 * DAY)


def test_what_is_known_stays():
    known = Model.of(series(YEAR[:2000]))
    assert known.learn(series(YEAR[:1500] + 50)) is known


def test_zones_and_kinds_are_never_mixed(model):
    with pytest.raises(MixedKinds):
        model.learn(series(YEAR, zone="FR"))
    with pytest.raises(MixedKinds):
        model.forecast(series(YEAR, kind=Kind(Signal.MARGINAL, KIND.scope, KIND.basis)), T0 + DAY, T0 + 2 * DAY)


def test_finer_steps_are_averaged_to_hours():
    first, values = whole_hours(series([1, 3, 5, 7, 9], T0 + timedelta(minutes=30), timedelta(minutes=30)))
    assert first == int(T0.timestamp() // 3600) + 1 and values.tolist() == [4.0, 8.0]
    half = series(np.repeat(YEAR, 2), step=timedelta(minutes=30))
    a, b = (Model.of(h).forecast(h, h.end, h.end + DAY).series for h in (half, series(YEAR)))
    assert np.allclose(a.intensity_g_per_kwh, b.intensity_g_per_kwh)


def test_trailing_entries_know_nothing_of_later_hours():
    changed = YEAR.copy()
    changed[2000:] *= 3
    for name in ("l24", "l72", "l168", "l336", "m7", "m14", "m28", "anomaly", "weekday4", "weekday"):
        a, b = getattr(Past(YEAR), name), getattr(Past(changed), name)
        assert np.allclose(a[:2000], b[:2000], equal_nan=True), name
        back = 192 if "week" in name else 24  # how far before its origin a path reads it
        assert not np.isnan(a[FIRST_ORIGIN - back :]).any(), name


def test_it_beats_the_day_before_where_weekends_and_weather_matter():
    learnt = Model.of(series(YEAR[: 10 * FORTNIGHT]))
    origins = np.arange(10 * FORTNIGHT, len(YEAR) - LEADS, 7)
    ours, _ = paths_g_per_kwh(learnt, series(YEAR), origins + learnt.first_hour)
    truth = YEAR[origins[:, None] + np.arange(LEADS)]
    before = np.tile(YEAR[origins[:, None] - 24 + np.arange(24)], (1, 7))
    assert np.abs(ours - truth).mean() < 0.8 * np.abs(before - truth).mean()


def test_the_band_covers_what_it_says():
    values = grid(330 * 24, seed=5)
    known = Model.of(series(values[: 15 * FORTNIGHT]))
    hits = []
    for begin in range(15 * FORTNIGHT, len(values) - LEADS - FORTNIGHT, FORTNIGHT):
        origins = np.arange(begin, begin + FORTNIGHT, EVERY)
        _, band = paths_g_per_kwh(known, series(values), origins + known.first_hour)
        truth = values[origins[:, None] + np.arange(LEADS)]
        hits.append((truth >= band[LEVELS.index(0.1)]) & (truth <= band[LEVELS.index(0.9)]))
        known = known.learn(series(values[: begin + FORTNIGHT]))
    covered = np.concatenate(hits).mean(axis=0)
    for lead in (6, 24, 72):
        assert 0.70 < covered[lead] < 0.90
