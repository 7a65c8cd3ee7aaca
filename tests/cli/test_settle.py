"""`windward settle`, and `report` and `list` in passing: what an earlier command left open becomes final."""

from datetime import UTC, datetime, timedelta

import pytest


@pytest.fixture
def record(tmp_path):
    """Write a recording of GB that reaches so many hours from now; it is `own.csv`."""

    def write(until_h):
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        rows = [f"GB,{hour + timedelta(hours=h):%Y-%m-%dT%H:%M:%SZ},80" for h in range(-100, until_h)]
        (tmp_path / "trace.json").write_text('{"signal": "Average", "scope": "LifeCycle", "basis": "Consumption"}')
        (tmp_path / "own.csv").write_text("\n".join(["zone,timestamp_utc,carbon_intensity_gco2_kwh", *rows]) + "\n")

    return write


def late(tmp_path):
    return ("run", "--zone", "GB", "--trace", str(tmp_path / "own.csv"), "--name", "late", "--", "true")


def test_what_an_earlier_command_left_open_becomes_final(windward, record, tmp_path):
    """A recording that ends before the job does; then the missing hours are there."""
    record(-2)
    assert "provisional" in windward(*late(tmp_path)).out
    (job,) = windward("list", "-o", "json").json()["items"]
    assert job["provisional"] and not job["rehearsed"] and "provisional" in windward("list").out
    assert "provisional: default/late: " in windward("settle").out
    record(3)
    told = windward("settle", "-o", "json").json()
    assert (told["kind"], [i["settled"] for i in told["items"]]) == ("SettledList", [True])
    assert told["items"][0]["emissionsGrams"] > 0
    assert "provisional" not in windward("list").out
    (line,) = [x for x in windward("report").out.splitlines() if x.startswith("default/late")]
    assert " settled " in line
    assert "every receipt is final" in windward("settle").err


@pytest.mark.parametrize("command", ["report", "list"])
def test_who_looks_settles_in_passing_and_says_so(windward, record, tmp_path, command):
    record(-2)
    windward(*late(tmp_path))
    record(3)
    told = windward(command)
    assert "settled: default/late: ~" in told.err and "provisional" not in told.out
    assert "settled:" not in windward(command).err
