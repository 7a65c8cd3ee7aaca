"""Recorded traces: the bundled year, and what a user may bring."""

import gzip
import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from skips import need

from windward.domain.series import Basis, Kind, Quality, Scope, Signal
from windward.grid import ForecastInvalid, Grid, InvalidReason, TraceProvider, UnknownZone
from windward.grid.ahead import Ahead
from windward.grid.trace import _BUNDLED
from windward.ledger import MemoryLedger

KIND = Kind(Signal.AVERAGE, Scope.DIRECT, Basis.PRODUCTION)
HOUR = timedelta(hours=1)
ZONES = ("DE", "GB", "FR", "PL", "ES", "SE-SE3", "US-CAL-CISO", "US-TEX-ERCO")
Y2022 = datetime(2022, 1, 1, tzinfo=UTC)


def year(zone):
    return TraceProvider.bundled().history(zone, Y2022, Y2022 + 8760 * HOUR)


# -- the bundled trace -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "at", "expected"),
    [  # read from the source files
        ("DE", "2022-01-01T00:00Z", 216.56),
        ("DE", "2022-01-01T02:00Z", 226.53),
        ("DE", "2022-12-31T23:00Z", 210.73),
        ("US-CAL-CISO", "2022-01-01T01:00Z", 293.69),
        ("US-CAL-CISO", "2022-12-31T23:00Z", 275.14),
        ("SE-SE3", "2022-01-01T02:00Z", 26.25),
        ("SE-SE3", "2022-12-31T23:00Z", 22.37),
    ],
)
def test_values_are_those_of_the_source(zone, at, expected):
    assert year(zone).at(datetime.fromisoformat(at)) == expected


def test_no_value_has_changed_since_it_was_made():
    digest = hashlib.sha256()
    for zone in ZONES:
        values = year(zone).intensity_g_per_kwh
        assert len(values) == 8760
        digest.update(np.rint(values * 100).astype("<i8").tobytes())
    assert digest.hexdigest() == "f945dbdb8ca1cb3e2bb667dee6594975d7133d13b38f73e5e6413b6892a6e10f"


def test_it_is_small_and_says_whose_it_is():
    assert _BUNDLED.stat().st_size < 400_000
    notice = (_BUNDLED.parent / "NOTICE").read_text()
    for word in ("ODbL", "Electricity Maps", "3493a63016bd2aaa71cae1f33809576786b331d4", "make_bundled_trace.py"):
        assert word in notice


@pytest.mark.parametrize("zone", ZONES)
def test_it_is_marked_as_a_demonstration(zone):
    issue = TraceProvider.bundled().issue(zone, datetime(2026, 11, 21, 9, 20, tzinfo=UTC))
    assert issue.demo
    assert issue.source == "trace:2022"
    assert issue.attribution == "Electricity Maps (2022), ODbL 1.0"
    assert str(issue.kind) == "average life-cycle consumption"
    assert set(issue.quality) == {Quality.RECORDED}
    assert issue.issued_at == issue.start == datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert issue.end == datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("present", "recorded"),
    [
        ("2022-01-01T00:00Z", "2022-01-01T00:00Z"),
        ("2022-07-14T13:00Z", "2022-07-14T13:00Z"),
        ("2022-12-31T23:00Z", "2022-12-31T23:00Z"),
        ("2023-01-01T00:00Z", "2022-01-02T00:00Z"),  # a Sunday
        ("2026-11-21T09:00Z", "2022-11-26T09:00Z"),  # a Saturday
        ("2028-02-29T12:00Z", "2022-03-08T12:00Z"),  # a Tuesday
        ("2021-12-31T23:00Z", "2022-12-30T23:00Z"),  # before the trace: a Friday
        ("1999-06-15T05:00Z", "2022-05-17T05:00Z"),
    ],
)
def test_any_time_is_the_same_hour_of_the_same_weekday_of_2022(present, recorded):
    present, recorded = datetime.fromisoformat(present), datetime.fromisoformat(recorded)
    assert present.weekday() == recorded.weekday()
    issue = TraceProvider.bundled().issue("DE", present)
    assert issue.intensity_g_per_kwh[0] == year("DE").at(recorded)


def test_it_repeats_after_52_weeks():
    bundled = TraceProvider.bundled()
    a = bundled.issue("FR", datetime(2024, 5, 5, 5, tzinfo=UTC))
    b = bundled.issue("FR", datetime(2024, 5, 5, 5, tzinfo=UTC) + timedelta(days=364 * 3))
    assert a.intensity_g_per_kwh.tolist() == b.intensity_g_per_kwh.tolist()


@pytest.mark.parametrize(("horizon_h", "periods"), [(1, 2), (0.5, 1), (24, 25), (72, 73)])
def test_the_horizon_is_a_parameter(horizon_h, periods):
    issue = TraceProvider.bundled(horizon_h * HOUR).issue("DE", datetime(2026, 1, 1, 0, 30, tzinfo=UTC))
    assert len(issue.quality) == periods


def test_on_the_full_hour_the_horizon_is_exact():
    assert len(TraceProvider.bundled().issue("DE", datetime(2026, 1, 1, tzinfo=UTC)).quality) == 48


# -- a user's own ----------------------------------------------------------------------------------------------------

HEADER = "timestamp_utc,carbon_intensity_gco2_kwh"
T0 = datetime(2025, 6, 1, tzinfo=UTC)


def lines(count, step=HOUR, form="%Y-%m-%dT%H:%M:%SZ"):
    return [f"{(T0 + k * step).strftime(form)},{100 + k}" for k in range(count)]


def write_csv(folder, rows, name="DE.csv", header=HEADER):
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder


def write_gz(folder, rows):
    (folder / "DE.csv.gz").write_bytes(gzip.compress("\n".join([HEADER, *rows]).encode("utf-8-sig")))
    return folder


def write_parquet(folder, rows):
    need("pyarrow")
    import pyarrow as pa
    from pyarrow import parquet

    times, values = zip(*(row.split(",") for row in rows), strict=True)
    stamps = pa.array([datetime.fromisoformat(t) for t in times], pa.timestamp("us", "UTC"))
    table = pa.table({"timestamp_utc": stamps, "carbon_intensity_gco2_kwh": [float(v) for v in values]})
    parquet.write_table(table, folder / "DE.parquet")
    return folder


@pytest.mark.parametrize("write", [write_csv, write_gz, write_parquet])
@pytest.mark.parametrize("step", [timedelta(minutes=1), timedelta(minutes=15), HOUR])
def test_formats_and_steps(tmp_path, write, step):
    trace = TraceProvider.open(write(tmp_path, lines(200, step)), KIND, horizon=50 * step)
    assert trace.zones() == ("DE",)
    issue = trace.issue("DE", T0 + 10.5 * step)
    assert issue.start == T0 + 10 * step and issue.intensity_g_per_kwh[:2].tolist() == [110, 111]
    assert len(issue.quality) == 51
    assert not issue.demo and issue.source == f"trace:{tmp_path.name}"
    past = trace.history("DE", T0, T0 + 3 * step)
    assert past.intensity_g_per_kwh.tolist() == [100, 101, 102] and set(past.quality) == {Quality.MEASURED}


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%dT%H:%MZ"])
def test_time_stamps_are_utc(tmp_path, form):
    issue = TraceProvider.open(write_csv(tmp_path, lines(30, form=form)), KIND).issue("DE", T0)
    assert issue.start == T0


def test_other_offsets_are_converted(tmp_path):
    rows = [row.replace("Z", "+05:45") for row in lines(30)]
    history = TraceProvider.open(write_csv(tmp_path, rows), KIND).history("DE", T0 - 24 * HOUR, T0 + 24 * HOUR)
    assert history.start == T0 - timedelta(hours=5, minutes=45)


def test_one_file_with_a_zone_column(tmp_path):
    rows = [f"{zone},{row}" for row in lines(30) for zone in ("DE", "FR")]
    write_csv(tmp_path, rows, "all.csv", "zone," + HEADER)
    trace = TraceProvider.open(tmp_path / "all.csv", KIND)
    assert trace.zones() == ("DE", "FR") and trace.name == "trace:all"
    assert trace.issue("FR", T0).intensity_g_per_kwh[0] == 100


def test_the_end_of_a_trace_shortens_the_issue_and_then_ends_it(tmp_path):
    trace = TraceProvider.open(write_csv(tmp_path, lines(30)), KIND)
    assert trace.issue("DE", T0 + 28 * HOUR).end == T0 + 30 * HOUR
    assert trace.history("DE", T0 - 9 * HOUR, T0 + 99 * HOUR).covers(T0, T0 + 30 * HOUR)
    for now, reason in ((T0 + 30 * HOUR, InvalidReason.PAST_ONLY), (T0 - 0.1 * HOUR, InvalidReason.STARTS_LATE)):
        with pytest.raises(ForecastInvalid) as refusal:
            trace.issue("DE", now)
        assert refusal.value.reason is reason
    for start, end in ((T0 - 2 * HOUR, T0), (T0 + 30 * HOUR, T0 + 31 * HOUR)):
        with pytest.raises(ForecastInvalid) as refusal:
            trace.history("DE", start, end)
        assert refusal.value.reason is InvalidReason.EMPTY


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([*lines(20), *lines(40)[21::2]], InvalidReason.GAP),
        ([*lines(5), *lines(9)[4:]], InvalidReason.DOUBLED),
        (lines(5)[::-1], InvalidReason.UNSORTED),
        ([*lines(2), "2025-06-01T02:00:00Z,high"], InvalidReason.NOT_A_NUMBER),
        ([*lines(2), "2025-06-01T02:00:00Z,inf"], InvalidReason.NOT_A_NUMBER),
        ([*lines(5), *(row.replace(":00:00Z", ":30:00Z") for row in lines(30)[7:])], InvalidReason.MIXED_STEPS),
        ([*lines(2), "2025-06-01T02:00:00Z,-7"], InvalidReason.NEGATIVE),
        ([*lines(2), "2025-06-01T02:00:00Z,1e9"], InvalidReason.IMPLAUSIBLE),
        (["yesterday,5", *lines(2)], InvalidReason.BAD_TIME),
        (["01.06.2025 00:00,5", *lines(2)], InvalidReason.BAD_TIME),
        ([], InvalidReason.EMPTY),
        (lines(5, timedelta(seconds=30)), InvalidReason.MIXED_STEPS),
    ],
)
def test_a_bad_trace_is_refused_as_a_bad_answer_is(tmp_path, rows, reason):
    with pytest.raises(ForecastInvalid) as refusal:
        TraceProvider.open(write_csv(tmp_path, rows), KIND).issue("DE", T0)
    assert refusal.value.reason is reason


def test_a_bad_zone_harms_only_itself(tmp_path):
    write_csv(tmp_path, lines(5)[::-1])
    write_csv(tmp_path, lines(5), "FR.csv")
    trace = TraceProvider.open(tmp_path, KIND)
    assert trace.issue("FR", T0).at(T0) == 100
    with pytest.raises(UnknownZone, match=r"It holds DE, FR\."):
        trace.issue("PL", T0)


def test_the_kind_is_stated_in_the_call_or_beside_the_data(tmp_path):
    write_csv(tmp_path, lines(5))
    with pytest.raises(ValueError, match=r"not stated.*trace\.json"):
        TraceProvider.open(tmp_path)
    words = {"signal": "Marginal", "scope": "Direct", "basis": "Production", "attribution": "Someone, CC BY 4.0"}
    (tmp_path / "trace.json").write_text(json.dumps(words))
    trace = TraceProvider.open(tmp_path)
    assert str(trace.kind) == "marginal direct production"
    assert trace.issue("DE", T0).attribution == "Someone, CC BY 4.0"
    (tmp_path / "trace.json").write_text('{"signal": "average"}')
    with pytest.raises(ValueError, match="must read like"):
        TraceProvider.open(tmp_path)


@pytest.mark.parametrize("value", ["", "nan", "NaN", "NULL", "n/a", "-1"])
def test_an_hour_without_a_value_is_a_hole_of_that_hour(tmp_path, value):
    rows = [*lines(7), f"2025-06-01T07:00:00Z,{value}", *lines(30)[8:]]
    past = TraceProvider.open(write_csv(tmp_path, rows), KIND).history("DE", T0, T0 + 30 * HOUR)
    assert past.gaps == ((T0 + 7 * HOUR, T0 + 8 * HOUR),)
    assert past.at(T0 + 6 * HOUR) == 106 and past.at(T0 + 7 * HOUR) is None and past.at(T0 + 29 * HOUR) == 129


def test_an_hour_without_a_row_is_a_hole_of_that_hour(tmp_path):
    trace = TraceProvider.open(write_csv(tmp_path, [*lines(7), *lines(30)[8:]]), KIND)
    issue = trace.issue("DE", T0 + 2 * HOUR)
    assert issue.gaps == ((T0 + 7 * HOUR, T0 + 8 * HOUR),) and issue.at(T0 + 8 * HOUR) == 108
    assert trace.issue("DE", T0 + 7.5 * HOUR).start == T0 + 8 * HOUR
    with pytest.raises(ForecastInvalid, match=r"no value from 2025-06-01T07:00Z to 2025-06-01T08:00Z"):
        trace.history("DE", T0 + 7 * HOUR, T0 + 8 * HOUR)


def test_nothing_of_the_right_name_is_no_trace(tmp_path):
    with pytest.raises(ValueError, match="no file named <zone>"):
        TraceProvider.open(tmp_path, KIND)


UNREADABLE = [
    (b"time,value\n1,2\n", "has no column `timestamp_utc`; it has time, value"),
    (f"{HEADER}\n2025-06-01T00:00Z\n".encode(), "row 2 of DE.csv has 1 fields, and the header 2"),
    (b"", "DE.csv is empty"),
    (b"\n \n", "DE.csv is empty"),
    (f"{HEADER}\n".replace(",", ";").encode(), "has semicolons between its columns. Save it with commas"),
    (f"{HEADER}\n".replace(",", "\t").encode(), "has tabs between its columns"),
    (f"{HEADER}\n".encode("utf-16"), "DE.csv is UTF-16 text. Save it as UTF-8"),
    (b"PK\x03\x04\0\0", "is a binary file, not CSV"),
    (b"timestamp_utc,\xe9\n", "is not UTF-8 text: byte 15"),
    (f'{HEADER}\n"2025'.encode(), "is no CSV"),
    (f"{HEADER}\n{'9' * 200_000},1\n".encode(), "is no CSV"),
]


@pytest.mark.parametrize(("content", "told"), UNREADABLE, ids=[told[:40] for _, told in UNREADABLE])
def test_what_is_no_trace_says_why_as_the_port_says_it(tmp_path, content, told):
    (tmp_path / "DE.csv").write_bytes(content)
    trace = TraceProvider.open(tmp_path, KIND)
    for ask in (lambda: trace.issue("DE", T0), lambda: trace.history("DE", T0, T0 + HOUR), lambda: trace.span("DE")):
        with pytest.raises(ForecastInvalid) as refusal:
            ask()
        assert refusal.value.reason is InvalidReason.MALFORMED and told in str(refusal.value)
    grid = Grid(trace, MemoryLedger(), ahead=Ahead(trace))
    grid.refresh(["DE"], T0)
    detail = grid.forecasts(["DE"], T0)["DE"].detail
    assert told in detail and "report" not in detail


@pytest.mark.parametrize("name", ["DE.csv.gz", "DE.parquet"])
def test_a_packed_file_that_is_none_says_so(tmp_path, name):
    if name.endswith("parquet"):
        need("pyarrow")
    (tmp_path / name).write_bytes(b"this is neither")
    with pytest.raises(ForecastInvalid, match=r"cannot be read|no Parquet file"):
        TraceProvider.open(tmp_path, KIND).issue("DE", T0)


@pytest.mark.parametrize(
    ("unit", "factor"), [(None, 1.0), ("gCO2eq/kWh", 1.0), ("lb/MWh", 0.45359237), ("kg/kWh", 1000.0)]
)
def test_the_unit_beside_the_data_is_obeyed(tmp_path, unit, factor):
    words = {"signal": "Marginal", "scope": "Direct", "basis": "Production"} | ({"unit": unit} if unit else {})
    (tmp_path / "trace.json").write_text(json.dumps(words))
    values = [f"2025-06-01T{h:02d}:00:00Z,{0.5 if factor == 1000.0 else 500 + h}" for h in range(5)]
    series = TraceProvider.open(write_csv(tmp_path, values)).issue("DE", T0)
    assert series.at(T0) == pytest.approx(factor * (0.5 if factor == 1000.0 else 500))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"unit": "index"}, "unit 'index' is unknown: write one of g/kwh"),
        ({"unit": 3}, "unit 3 is unknown"),
        ({"units": "lb/MWh"}, "unknown key 'units': known are signal"),
    ],
)
def test_what_stands_beside_the_data_and_is_not_understood_is_refused(tmp_path, words, told):
    known = {"signal": "Marginal", "scope": "Direct", "basis": "Production"}
    (tmp_path / "trace.json").write_text(json.dumps(known | words))
    with pytest.raises(ValueError, match=told):
        TraceProvider.open(write_csv(tmp_path, lines(5)))


def test_no_such_path(tmp_path):
    with pytest.raises(ValueError, match="no trace at"):
        TraceProvider.open(tmp_path / "nowhere", KIND)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "DE.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ForecastInvalid, match=r"pip install 'windward\[parquet\]'"):
        TraceProvider.open(tmp_path, KIND).issue("DE", T0)


# -- cost of the first step ------------------------------------------------------------------------------------------


def test_the_trace_needs_neither_network_nor_database_nor_cluster():
    program = """
import sys, time
import numpy, windward.domain.forecast
began = time.perf_counter()
from windward.grid import TraceProvider, Grid
from datetime import datetime, UTC
bundled = TraceProvider.bundled()
for zone in bundled.zones():
    bundled.issue(zone, datetime(2026, 11, 21, tzinfo=UTC))
took = time.perf_counter() - began
heavy = {"httpx", "stamina", "sqlalchemy", "alembic", "kopf", "kubernetes", "torch", "pyarrow", "pydantic"}
print(sorted(heavy & set(sys.modules)), took)
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded, took = out.rsplit(" ", 1)
    assert loaded == "[]"
    assert float(took) < 1.0  # 0.04 s on an idle core; the bound leaves room for a busy machine
