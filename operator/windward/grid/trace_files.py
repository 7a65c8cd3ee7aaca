"""Reading a user's own trace: CSV, CSV.gz and Parquet. Loaded only when a trace is opened."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from windward.domain.series import Basis, Floats, Kind, Quality, Scope, Signal
from windward.grid.port import ZONE_PATTERN, ForecastInvalid, InvalidReason
from windward.grid.trace import Recording
from windward.grid.validate import Answer, Origin, validate

TIME, VALUE, ZONE = "timestamp_utc", "carbon_intensity_gco2_kwh", "zone"
_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_MIN_STEP_S = 60.0

Columns = dict[str, list[object]]


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
    stated, attribution = _metadata(folder / "trace.json")
    kind = kind or stated
    if kind is None:
        raise ValueError(f"{path}: what the values count is not stated; give `kind`, or write {folder / 'trace.json'}")
    if path.is_dir():
        files = {_stem(file): file for file in sorted(path.iterdir()) if file.name.endswith(_SUFFIXES)}
        files = {zone: file for zone, file in files.items() if ZONE_PATTERN.fullmatch(zone)}
        if not files:
            raise ValueError(f"{path}: no file named <zone>.csv, <zone>.csv.gz or <zone>.parquet")
        return TraceSource(path.name, kind, tuple(files), attribution, partial(_from_folder, files, kind))
    columns = _read(path)
    if ZONE not in columns:
        raise ValueError(f"{path}: no column `{ZONE}`; a trace in one file needs it")
    zones = tuple(dict.fromkeys(str(zone) for zone in columns[ZONE]))
    return TraceSource(_stem(path), kind, zones, attribution, partial(_from_columns, path, columns, kind))


def _metadata(file: Path) -> tuple[Kind | None, str]:
    if not file.exists():
        return None, ""
    try:
        words = json.loads(file.read_text(encoding="utf-8"))
        kind = Kind(Signal(words["signal"]), Scope(words["scope"]), Basis(words["basis"]))
        return kind, str(words.get("attribution", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        example = '{"signal": "Average", "scope": "LifeCycle", "basis": "Consumption"}'
        raise ValueError(f"{file}: {error}; it must read like {example}") from error


def _stem(file: Path) -> str:
    for suffix in _SUFFIXES:
        if file.name.endswith(suffix):
            return file.name.removesuffix(suffix)
    return file.name


def _from_folder(files: dict[str, Path], kind: Kind, zone: str) -> Recording:
    return _recording(zone, files[zone], _read(files[zone]), kind)


def _from_columns(path: Path, columns: Columns, kind: Kind, zone: str) -> Recording:
    rows = [i for i, name in enumerate(columns[ZONE]) if name == zone]
    return _recording(zone, path, {key: [values[i] for i in rows] for key, values in columns.items()}, kind)


def _read(path: Path) -> Columns:
    columns = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    missing = [name for name in (TIME, VALUE) if name not in columns]
    if missing:
        raise ValueError(f"{path}: no column `{missing[0]}`; it has {', '.join(columns) or 'none'}")
    return columns


def _read_csv(path: Path) -> Columns:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"))))
    if not rows:
        return {}
    header, body = rows[0], [row for row in rows[1:] if row]
    if any(len(row) != len(header) for row in body):
        raise ValueError(f"{path}: a row has not as many fields as the header")
    return {name: [row[i] for row in body] for i, name in enumerate(header)}


def _read_parquet(path: Path) -> Columns:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{path}: reading Parquet needs pyarrow: pip install 'windward[parquet]'") from None
    table = parquet.read_table(path)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _recording(zone: str, path: Path, columns: Columns, kind: Kind) -> Recording:
    """One zone as equal steps; a trace is checked as strictly as a live answer."""
    starts = _times(zone, path, columns[TIME])
    values = [_value(zone, path, value) for value in columns[VALUE]]
    now = datetime.fromtimestamp(float(starts[-1]) if len(starts) else 0.0, UTC)
    answer = Answer(zone, "gCO2/kWh", starts, values, Quality.RECORDED)
    series = validate(zone, answer, Origin(kind, f"trace:{_stem(path)}", now, now))
    step_s = float(series.edges[1] - series.edges[0])
    if step_s < _MIN_STEP_S:
        raise ForecastInvalid(
            zone, InvalidReason.MIXED_STEPS, f"{path.name} has steps of {step_s:g} s, less than a minute"
        )
    return Recording(float(series.edges[0]), step_s, series.intensity_g_per_kwh)


def _value(zone: str, path: Path, value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return float(value) if value.strip() else None
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
