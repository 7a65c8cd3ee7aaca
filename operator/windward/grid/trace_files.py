"""Reading a user's own trace: CSV, CSV.gz and Parquet. Loaded only when a trace is opened."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from windward.domain.series import Basis, Floats, Kind, Quality, Scope, Series, Signal
from windward.grid.port import ZONE_PATTERN, ForecastInvalid, InvalidReason
from windward.grid.recording import Recording
from windward.grid.validate import UNITS, Answer, Origin, g_per_kwh, validate

TIME, VALUE, ZONE = "timestamp_utc", "carbon_intensity_gco2_kwh", "zone"
_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_MIN_STEP_S = 60.0

_METADATA = ("signal", "scope", "basis", "attribution", "unit")
_UNIT = "gCO2/kWh"
_ABSENT = ("", "nan", "na", "n/a", "null", "none")

Columns = dict[str, list[object]]


class TraceUnreadable(ValueError):
    """A file that is no trace.

    Attributes:
        cause: which file, and what is wrong with it, without a trailing full stop.
        fix: what to do, one sentence.
    """

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(cause, fix)
        self.cause, self.fix = cause, fix

    def __str__(self) -> str:
        return f"{self.cause}. {self.fix}"


@dataclass(frozen=True, slots=True)
class TraceSource:
    """An opened trace: what it says of itself, and how to load a zone."""

    name: str
    kind: Kind
    zones: tuple[str, ...]
    attribution: str
    load: Callable[[str], Recording]


def open_trace(path: Path, kind: Kind | None) -> TraceSource:
    """Look at the trace without reading a folder's files.

    Raises:
        ValueError: no such path, no zones, or the kind is stated nowhere.
    """
    if not path.exists():
        raise ValueError(f"no trace at {path}: give a folder with one file a zone, or one file with a zone column")
    folder = path if path.is_dir() else path.parent
    stated, attribution, unit = _metadata(folder / "trace.json")
    kind = kind or stated
    if kind is None:
        raise ValueError(f"{path}: what the values count is not stated; give `kind`, or write {folder / 'trace.json'}")
    if path.is_dir():
        files = {_stem(file): file for file in sorted(path.iterdir()) if file.name.endswith(_SUFFIXES)}
        files = {zone: file for zone, file in files.items() if ZONE_PATTERN.fullmatch(zone)}
        if not files:
            raise ValueError(f"{path}: no file named <zone>.csv, <zone>.csv.gz or <zone>.parquet")
        return TraceSource(
            path.resolve().name, kind, tuple(files), attribution, partial(_from_folder, files, kind, unit)
        )
    columns = _read(path)
    if ZONE not in columns:
        raise ValueError(f"{path}: no column `{ZONE}`; a trace in one file needs it")
    zones = tuple(dict.fromkeys(str(zone) for zone in columns[ZONE]))
    return TraceSource(_stem(path), kind, zones, attribution, partial(_from_columns, path, columns, kind, unit))


def _metadata(file: Path) -> tuple[Kind | None, str, str]:
    """What the values count, whom to credit, and the unit."""
    if not file.exists():
        return None, "", _UNIT
    try:
        words = json.loads(file.read_text(encoding="utf-8"))
        kind = Kind(Signal(words["signal"]), Scope(words["scope"]), Basis(words["basis"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        example = '{"signal": "Average", "scope": "LifeCycle", "basis": "Consumption"}'
        raise ValueError(f"{file}: {error}; it must read like {example}") from error
    strange = [key for key in words if key not in _METADATA]
    if strange:
        raise ValueError(f"{file}: unknown key {strange[0]!r}: known are {', '.join(_METADATA)}")
    unit = words.get("unit", _UNIT)
    if not isinstance(unit, str) or g_per_kwh(unit) is None:
        raise ValueError(f"{file}: unit {unit!r} is unknown: write one of {', '.join(UNITS)}")
    return kind, str(words.get("attribution", "")), unit


def _stem(file: Path) -> str:
    for suffix in _SUFFIXES:
        if file.name.endswith(suffix):
            return file.name.removesuffix(suffix)
    return file.name


def _from_folder(files: dict[str, Path], kind: Kind, unit: str, zone: str) -> Recording:
    return _recording(zone, files[zone], _read(files[zone]), kind, unit)


def _from_columns(path: Path, columns: Columns, kind: Kind, unit: str, zone: str) -> Recording:
    rows = [i for i, name in enumerate(columns[ZONE]) if name == zone]
    return _recording(zone, path, {key: [values[i] for i in rows] for key, values in columns.items()}, kind, unit)


def _read(path: Path) -> Columns:
    """The columns of a file.

    Raises:
        TraceUnreadable: whatever is wrong with the file.
    """
    try:
        columns = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (OSError, EOFError, zlib.error) as error:  # not gzip, cut off, no rights, gone
        raise TraceUnreadable(f"{path.name} cannot be read: {error}", "Copy the file again.") from error
    missing = [name for name in (TIME, VALUE) if name not in columns]
    if missing:
        cause = f"{path.name} has no column `{missing[0]}`; it has {', '.join(columns)[:200] or 'none'}"
        raise TraceUnreadable(cause, f"Name the columns {TIME} and {VALUE}.")
    return columns


def _read_csv(path: Path) -> Columns:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        rows = list(csv.reader(io.StringIO(_text(path, data)), strict=True))
    except csv.Error as error:
        raise TraceUnreadable(f"{path.name} is no CSV: {error}", "Save it as CSV, with commas.") from error
    header, body = rows[0], [row for row in rows[1:] if row]
    for name, mark in (("semicolons", ";"), ("tabs", "\t")):
        if len(header) == 1 and mark in header[0]:
            fix = "Save it with commas between the columns, and a point in numbers."
            raise TraceUnreadable(f"{path.name} has {name} between its columns", fix)
    short = next((i for i, row in enumerate(rows) if row and len(row) != len(header)), None)
    if short is not None:
        cause = f"row {short + 1} of {path.name} has {len(rows[short])} fields, and the header {len(header)}"
        raise TraceUnreadable(cause, "Give every row all columns; write numbers with a point.")
    return {name.strip(): [row[i] for row in body] for i, name in enumerate(header)}


def _text(path: Path, data: bytes) -> str:
    fix = f"Save it as UTF-8 text with the columns {TIME} and {VALUE}."
    if not data.strip():
        raise TraceUnreadable(f"{path.name} is empty", fix)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise TraceUnreadable(f"{path.name} is UTF-16 text", fix)
    if b"\0" in data:
        raise TraceUnreadable(f"{path.name} is a binary file, not CSV", fix)
    try:
        return data.decode("utf-8-sig").lstrip("\r\n")
    except UnicodeDecodeError as error:
        raise TraceUnreadable(f"{path.name} is not UTF-8 text: byte {error.start + 1} is none", fix) from error


def _read_parquet(path: Path) -> Columns:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        fix = "pip install 'windward[parquet]'"
        raise TraceUnreadable(f"reading {path.name} needs pyarrow", fix) from None
    try:
        table = parquet.read_table(path)
    except ArrowException as error:
        raise TraceUnreadable(f"{path.name} is no Parquet file: {str(error)[:200]}", "Write it again.") from error
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _recording(zone: str, path: Path, columns: Columns, kind: Kind, unit: str) -> Recording:
    """One zone as equal steps; a trace is checked as strictly as a live answer."""
    starts = _times(zone, path, columns[TIME])
    values = [_value(zone, path, value) for value in columns[VALUE]]
    now = datetime.fromtimestamp(float(starts[-1]) if len(starts) else 0.0, UTC)
    answer = Answer(zone, unit, starts, values, Quality.RECORDED)
    series = validate(zone, answer, Origin(kind, f"trace:{_stem(path)}", now, now))
    step_s = float(series.edges[1] - series.edges[0])
    if step_s < _MIN_STEP_S:
        raise ForecastInvalid(
            zone, InvalidReason.MIXED_STEPS, f"{path.name} has steps of {step_s:g} s, less than a minute"
        )
    return Recording(float(series.edges[0]), step_s, _on_one_grid(zone, path, series, step_s))


def _on_one_grid(zone: str, path: Path, series: Series, step_s: float) -> Floats:
    """The values at equal steps, NaN in a hole."""
    start_s, end_s = float(series.edges[0]), float(series.stretches[-1].edges[-1])
    steps = (end_s - start_s) / step_s
    values = np.full(round(steps), np.nan)
    for stretch in series.stretches:
        at = (stretch.edges - start_s) / step_s
        if (at != np.round(at)).any():
            cause = f"{path.name} goes on at {stretch.start:%Y-%m-%dT%H:%MZ}, which is no whole step of {step_s:g} s"
            raise ForecastInvalid(zone, InvalidReason.MIXED_STEPS, cause)
        first = round(float(at[0]))
        values[first : first + len(stretch.quality)] = stretch.intensity_g_per_kwh
    return values


def _value(zone: str, path: Path, value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return None if value.strip().lower() in _ABSENT else float(value)
    except ValueError:
        cause = f"{path.name} holds {value[:32]!r} where a number should be"
        raise ForecastInvalid(zone, InvalidReason.NOT_A_NUMBER, cause) from None


def _times(zone: str, path: Path, column: list[object]) -> Floats:
    """Epoch seconds. A text or a time without a zone is UTC, because the column's name says so."""
    try:
        if all(isinstance(cell, str) and cell.endswith("Z") for cell in column):
            stamps = np.array([str(cell)[:-1] for cell in column], dtype="datetime64[us]")
            return stamps.astype(np.int64) / 1e6
        return np.array([_epoch_s(cell) for cell in column], dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ForecastInvalid(zone, InvalidReason.BAD_TIME, f"{path.name}: {str(error)[:120]}") from None


def _epoch_s(cell: object) -> float:
    moment = datetime.fromisoformat(cell) if isinstance(cell, str) else cell
    if not isinstance(moment, datetime):
        raise ValueError(f"{cell!r} is no time")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
