"""Providers in order of trust: the next answers where one cannot, and never in another quantity unless declared."""

from datetime import UTC, datetime, timedelta

import pytest

from windward.domain.clock import FixedClock
from windward.domain.series import Basis, Kind, MixedKinds, Scope, Signal
from windward.grid import Grid, TraceProvider, Unreachable
from windward.grid.first_of import FirstOf
from windward.grid.registry import NAMES, spec_of
from windward.grid.static import StaticProvider
from windward.ledger import MemoryLedger
from windward.service.providers import provider_of

NOW = datetime(2022, 5, 1, 9, tzinfo=UTC)
LIFE = TraceProvider.bundled().kind
MARGINAL = Kind(Signal.MARGINAL, Scope.DIRECT, Basis.CONSUMPTION)


class Down:
    name, kind, revised_for = "down", LIFE, timedelta(days=1)

    def zones(self):
        return ("DE",)

    def issue(self, zone, now):
        raise Unreachable(zone, "down")

    def history(self, zone, start, end):
        raise Unreachable(zone, "down")


def test_the_next_answers_where_the_first_cannot():
    both = FirstOf([Down(), StaticProvider({"DE": 300.0}, LIFE)])
    assert both.issue("DE", NOW).source == "static"
    assert both.history("DE", NOW - timedelta(hours=3), NOW).intensity_g_per_kwh.tolist() == [300.0] * 3
    assert both.name == "down+static" and both.revised_for == timedelta(days=1)


def test_when_nobody_answers_the_first_error_is_told():
    with pytest.raises(Unreachable, match="down"):
        FirstOf([Down(), StaticProvider({"FR": 60.0}, LIFE)]).issue("DE", NOW)


def test_two_quantities_are_not_one_in_reserve_of_the_other():
    with pytest.raises(MixedKinds, match="declare the fallback across kinds"):
        FirstOf([Down(), StaticProvider({"DE": 300.0}, MARGINAL)])


def test_a_declared_fallback_across_kinds_says_what_it_is():
    grid = Grid(FirstOf([Down(), StaticProvider({"DE": 300.0}, MARGINAL)], across_kinds=True), MemoryLedger())
    grid.refresh(["DE"], NOW)
    forecast = grid.forecasts(["DE"], NOW)["DE"]
    assert forecast.series.kind == MARGINAL
    assert "Declared fallback: it counts marginal direct consumption, not average life-cycle" in forecast.detail


def test_by_name_and_environment():
    env = {"WINDWARD_STATIC_INTENSITY": "DE=380,FR=60", "WINDWARD_STATIC_KIND": "Average/LifeCycle/Consumption"}
    clock = FixedClock(NOW)
    assert provider_of("static", clock, None, env).zones() == ("DE", "FR")
    assert provider_of("trace,static", clock, None, env).name == "trace:2022+static"
    env["WINDWARD_STATIC_KIND"] = "Marginal/Direct/Consumption"
    with pytest.raises(MixedKinds):
        provider_of("trace,static", clock, None, env)
    assert provider_of("trace,static", clock, None, env | {"WINDWARD_FALLBACK_ACROSS_KINDS": "true"}).kind == LIFE


@pytest.mark.parametrize(
    ("name", "env", "message"),
    [
        ("magic", {}, "there is no provider 'magic'"),
        ("electricitymaps", {}, "needs WINDWARD_ELECTRICITYMAPS_KEY"),
        ("watttime", {"WINDWARD_WATTTIME_USER": "me"}, "needs WINDWARD_WATTTIME_PASSWORD"),
        ("static", {"WINDWARD_STATIC_INTENSITY": "DE", "WINDWARD_STATIC_KIND": "x"}, "is not ZONE=g/kWh"),
        (
            "static",
            {"WINDWARD_STATIC_INTENSITY": "DE=0.38,FR=60", "WINDWARD_STATIC_KIND": "Average/LifeCycle/Consumption"},
            "DE=0.38 reads like kg/kWh, and grams are asked for: no zone is below 1 g/kWh all the time; write DE=380",
        ),
        ("static", {"WINDWARD_STATIC_INTENSITY": "DE=x", "WINDWARD_STATIC_KIND": "x"}, "write DE=380"),
        ("static", {"WINDWARD_STATIC_INTENSITY": "DE=1", "WINDWARD_STATIC_KIND": "Average"}, "Average/LifeCycle"),
        ("carbon-aware-sdk", {"WINDWARD_CARBON_AWARE_SDK_URL": "http://x"}, "WINDWARD_CARBON_AWARE_SDK_KIND"),
    ],
)
def test_what_is_missing_is_named(name, env, message):
    with pytest.raises(ValueError, match=message):
        provider_of(name, FixedClock(NOW), None, env)


def test_every_name_can_be_made():
    env = {
        "WINDWARD_ELECTRICITYMAPS_KEY": "k", "WINDWARD_WATTTIME_USER": "u", "WINDWARD_WATTTIME_PASSWORD": "p",
        "WINDWARD_EIA_KEY": "k", "WINDWARD_CARBON_AWARE_SDK_URL": "http://sdk.example",
        "WINDWARD_CARBON_AWARE_SDK_KIND": "Marginal/Direct/Consumption", "WINDWARD_STATIC_INTENSITY": "DE=1",
        "WINDWARD_STATIC_KIND": "Average/Direct/Production",
    }  # fmt: skip
    for name in NAMES:
        provider = provider_of(name, FixedClock(NOW), None, env)
        assert provider.name.split(":")[0] in (name, "trace")
        assert spec_of(name).kind in (None, provider.kind)
