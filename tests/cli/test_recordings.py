"""Recordings of a user's own on the command line: holes, ends, units and files that are none, and jobs of many days."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import pytest

HOUR = timedelta(hours=1)
START = datetime(2022, 1, 1, tzinfo=UTC)
LOST = datetime(2022, 1, 21, 20, tzinfo=UTC)
KIND = {"signal": "Average", "scope": "LifeCycle", "basis": "Consumption"}
JOB = """
apiVersion: windward.dev/v1alpha1
kind: GreenJob
metadata: {{name: night}}
spec:
  completeWithin: {within}
  duration: {duration}
  interruption: {{policy: Checkpoint}}
  placement: {{regions: [here]}}
  power: {{watts: 300}}
  template: {{spec: {{containers: [{{name: m, image: x, command: ["true"]}}]}}}}
---
apiVersion: windward.dev/v1alpha1
kind: GreenRegion
metadata: {{name: here}}
spec: {{gridZone: DE}}
"""


def value(hour):
    """Cleanest at 18 h, dirtiest at 6 h."""
    return 300 + 150 * math.sin(hour.hour / 24 * 2 * math.pi)


@pytest.fixture
def recording(tmp_path):
    """Sixty days of DE; `write(lost=..., words=..., content=...)` makes another."""
    folder = tmp_path / "recorded"
    folder.mkdir()

    def write(*, lost=(), words=KIND, content=None, days=60):
        hours = [START + k * HOUR for k in range(days * 24)]
        rows = [f"{h:%Y-%m-%dT%H:%M:%SZ},{value(h):.1f}" for h in hours if h not in lost]
        text = "\n".join(["timestamp_utc,carbon_intensity_gco2_kwh", *rows])
        (folder / "DE.csv").write_bytes(text.encode() if content is None else content)
        (folder / "trace.json").write_text(json.dumps(words))
        return str(folder)

    return write


def job(tmp_path, within="18h", duration="4h"):
    file = tmp_path / "job.yaml"
    file.write_text(JOB.format(within=within, duration=duration))
    return str(file)


def test_a_forecast_over_a_hole_names_zone_and_hour_and_loses_nothing_else(windward, recording):
    told = "The issue of DE lacks 2022-01-21T20:00Z to 2022-01-21T21:00Z. Windward's forecast stands there."
    said = windward("forecast", "DE", "--trace", recording(lost=[LOST]), "--at", "2022-01-21T06:00:00Z")
    assert said.code == 0 and told in said.out, said
    item = windward("forecast", "DE", "--trace", recording(lost=[LOST]), "--at", "2022-01-21T06:00:00Z", "-o", "json")
    (body,) = item.json()["items"]
    quality = dict(zip(body["edgesEpochSeconds"], body["quality"], strict=False))
    assert quality[LOST.timestamp()] == "estimated" and quality[(LOST + HOUR).timestamp()] == "recorded"
    assert told in body["detail"]


def test_a_plan_rests_on_a_recording_with_a_hole_long_ago_and_says_so(windward, recording, tmp_path):
    where = ("--trace", recording(lost=[LOST]), "--at", "2022-02-10T06:00:00Z")
    said = windward("plan", "-f", job(tmp_path), *where)
    assert said.code == 0 and "CleanerWindow" in said.out and "No usable forecast" not in said.out
    assert "The history of DE lacks 2022-01-21T20:00Z to 2022-01-21T21:00Z" in said.out


def test_a_backtest_over_a_hole_is_no_traceback_and_says_so(windward, recording, tmp_path):
    where = ("--trace", recording(lost=[LOST]), "--foresight", "perfect", "--every", "97h")
    said = windward("backtest", "-f", job(tmp_path), *where, "--policy", "run-now,windward")
    assert said.code == 0, said.err
    assert "note: The recording of DE lacks 2022-01-21T20:00Z to 2022-01-21T21:00Z" in said.err
    saved = {line.split()[0]: line for line in said.out.splitlines() if line.startswith(("run-now", "windward"))}
    assert set(saved) == {"run-now", "windward"}


@pytest.mark.parametrize("content", [b"", b"a;b\n", "Datetime (UTC),Zone\n".encode("utf-16"), b"Datetime,Value\n1,2\n"])
@pytest.mark.parametrize("command", ["forecast", "plan", "backtest"])
def test_a_file_that_is_no_trace_is_told_in_our_words(windward, recording, tmp_path, command, content):
    folder = recording(content=content)
    arguments = {
        "forecast": ("forecast", "DE", "--trace", folder, "--at", "2022-01-02T00:00:00Z"),
        "plan": ("plan", "-f", job(tmp_path), "--trace", folder, "--at", "2022-01-02T00:00:00Z"),
        "backtest": ("backtest", "-f", job(tmp_path), "--trace", folder),
    }[command]
    said = windward(*arguments)
    told = said.err + said.out
    assert "report this" not in told and "Traceback" not in told
    assert "DE.csv" in told and ("Save it" in told or "Name the columns" in told)
    assert said.code == 2, "a recording that was asked for and cannot be read is no reason to go on without one"


def test_one_file_that_cannot_be_read_is_named(windward, recording, tmp_path):
    folder = recording()
    (tmp_path / "recorded" / "FR.csv").write_text("a;b\n")
    said = windward("forecast", "--trace", folder, "--at", "2022-01-05T06:00:00Z")
    assert said.code == 2 and "FR.csv has semicolons between its columns" in said.err and "commas" in said.err


def test_the_unit_beside_a_recording_is_obeyed(windward, recording):
    folder = recording(words=KIND | {"unit": "lb/MWh"})
    said = windward("forecast", "DE", "--trace", folder, "--at", "2022-01-05T06:00:00Z", "-o", "json")
    (body,) = said.json()["items"]
    assert body["intensityGramsPerKwh"][-1] < 450 * 0.46 and body["unit"] == "gCO2e/kWh"
    at = body["edgesEpochSeconds"].index(datetime(2022, 1, 5, 6, tzinfo=UTC).timestamp())
    assert body["intensityGramsPerKwh"][at] == pytest.approx(450 * 0.45359237, abs=0.01)


def test_an_unknown_unit_beside_a_recording_is_refused(windward, recording):
    folder = recording(words=KIND | {"unit": "index"})
    said = windward("forecast", "DE", "--trace", folder, "--at", "2022-01-05T06:00:00Z")
    assert said.code == 2 and "unit 'index' is unknown" in said.err


def test_a_recording_that_ended_half_an_hour_ago_is_a_forecast(windward, recording):
    said = windward("forecast", "DE", "--trace", recording(), "--at", "2022-03-02T00:30:00Z", "-o", "json")
    assert said.code == 0, said.err
    (body,) = said.json()["items"]
    assert body["source"].startswith("own:") and body["freshness"] == "Live"
    by_hour = dict(zip(body["edgesEpochSeconds"], body["intensityGramsPerKwh"], strict=False))
    for k in range(1, 48):
        hour = datetime(2022, 3, 2, tzinfo=UTC) + k * HOUR
        assert by_hour[hour.timestamp()] == pytest.approx(value(hour), abs=15)


@pytest.mark.parametrize(("duration", "within"), [("6d", "20d"), ("8d", "20d"), ("40d", "60d")])
def test_work_longer_than_what_is_known_is_planned_on_what_is_known(windward, recording, tmp_path, duration, within):
    where = ("--trace", recording(), "--at", "2022-02-10T06:00:00Z")
    said = windward("plan", "-f", job(tmp_path, within, duration), *where, "-o", "json")
    (item,) = said.json()["items"]
    assert item["reason"] != "FallbackNoForecast" and item["emissionsGrams"] is not None and item["feasible"]
    days = int(duration.removesuffix("d"))
    assert item["runNowGrams"] == pytest.approx(0.3 * 24 * days * 300, rel=0.05), "the mean of the known days goes on"
