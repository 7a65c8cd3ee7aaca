"""Recorded intensities as a provider: the bundled year 2022, or a user's own trace."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np

from windward.domain.clock import Clock, utc
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid.port import ForecastInvalid, InvalidReason, Provider, UnknownZone, checked_range, checked_zone
from windward.grid.provider_spec import Environment, ProviderSpec
from windward.grid.recording import Recording

HORIZON = timedelta(hours=48)
BUNDLED_KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
BUNDLED_ATTRIBUTION = "Electricity Maps (2022), ODbL 1.0"

_BUNDLED = Path(__file__).parent / "traces" / "2022.csv.gz"
_WEEKS_S = 364 * 86_400  # 52 whole weeks: keeps hour and weekday


class TraceProvider:
    """Replays recordings. The next hours of the recording stand in for a forecast (quality `recorded`).

    A user's own trace keeps its real times: before its first and after its last period there is nothing. The bundled
    trace answers for any time (`bundled`).
    """

    revised_for = timedelta(0)

    def __init__(
        self,
        name: str,
        kind: Kind,
        zones: tuple[str, ...],
        load: Callable[[str], Recording],
        *,
        horizon: timedelta = HORIZON,
        attribution: str = "",
        demo: bool = False,
        repeats: bool = False,
    ) -> None:
        if horizon <= timedelta(0):
            raise ValueError(f"horizon must be positive, not {horizon}")
        self.name = name
        self.kind = kind
        self.attribution = attribution
        self._zones = zones
        self._load = load
        self._horizon_s = horizon.total_seconds()
        self._demo = demo
        self._repeats = repeats
        self._loaded: dict[str, Recording] = {}

    @classmethod
    def bundled(cls, horizon: timedelta = HORIZON) -> TraceProvider:
        """A real year, 2022, of eight zones, for demonstrations: in no report, watermarked everywhere.

        Within 2022 it answers with the recorded hour itself. Any other time is moved by whole multiples of 364 days (52
        weeks) into the trace's first 52 weeks, so that hour and weekday stay as they are and the season drifts by a
        day and a quarter for each year of distance: "the same hour of the same weekday, 2022".
        """
        zones = tuple(_bundled_lines())
        return cls(
            "trace:2022",
            BUNDLED_KIND,
            zones,
            _bundled_zone,
            horizon=horizon,
            attribution=BUNDLED_ATTRIBUTION,
            demo=True,
            repeats=True,
        )

    @classmethod
    def open(
        cls, path: Path | str, kind: Kind | None = None, *, horizon: timedelta = HORIZON, attribution: str = ""
    ) -> TraceProvider:
        """A user's own trace: a folder with one CSV, CSV.gz or Parquet file a zone, or one file with a `zone` column.

        Columns: `timestamp_utc` (start of the period), `carbon_intensity_gco2_kwh`; any equal step from a minute up.

        Args:
            kind: what the values count. It may instead stand in `trace.json` beside the data:
                `{"signal": "Average", "scope": "LifeCycle", "basis": "Consumption", "attribution": "..."}`.
                It is never guessed.

        Raises:
            ValueError: no such path, no kind, no zone or no such column; the message says which.
        """
        from windward.grid.trace_files import open_trace

        source = open_trace(Path(path), kind)
        name = f"trace:{source.name}"
        credit = attribution or source.attribution
        return cls(name, source.kind, source.zones, source.load, horizon=horizon, attribution=credit)

    def zones(self) -> tuple[str, ...]:
        return self._zones

    def span(self, zone: str) -> tuple[datetime, datetime]:
        """From when to when the recording itself reaches, whatever it answers for beyond that."""
        recording = self._recording(zone)
        return datetime.fromtimestamp(recording.start_s, UTC), datetime.fromtimestamp(recording.end_s, UTC)

    def issue(self, zone: str, now: datetime) -> Series:
        """The recorded periods from the one that contains `now` to the horizon; issued at the start of that period."""
        recording = self._recording(zone)
        now_s = utc(now).timestamp()
        if not self._repeats:
            self._check_inside(zone, recording, now_s)
        first = int((now_s - recording.start_s) // recording.step_s)
        count = max(1, int(np.ceil((now_s + self._horizon_s - recording.start_s) / recording.step_s)) - first)
        issued_at = datetime.fromtimestamp(recording.start_s + first * recording.step_s, UTC)
        return self._series(zone, recording, first, first + count, Quality.RECORDED, issued_at, utc(now))

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        """The recorded periods that overlap [start, end): `measured` in a user's trace, else `recorded`."""
        a, b = checked_range(start, end)
        recording = self._recording(zone)
        first = int((a - recording.start_s) // recording.step_s)
        stop = int(np.ceil((b - recording.start_s) / recording.step_s))
        if not self._repeats:
            first, stop = max(first, 0), min(stop, len(recording.intensity_g_per_kwh))
            if stop <= first:
                cause = f"{self.name} has nothing from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
                raise ForecastInvalid(zone, InvalidReason.EMPTY, cause)
        quality = Quality.RECORDED if self._repeats else Quality.MEASURED
        known_at = datetime.fromtimestamp(recording.start_s + stop * recording.step_s, UTC)
        return self._series(zone, recording, first, stop, quality, known_at, known_at)

    def _recording(self, zone: str) -> Recording:
        recording = self._loaded.get(zone)
        if recording is None:
            if checked_zone(zone) not in self._zones:
                raise UnknownZone(zone, f"{self.name} does not hold this zone", f"It holds {', '.join(self._zones)}.")
            recording = self._loaded[zone] = self._read(zone)  # two threads may both load it; the results are equal
        return recording

    def _read(self, zone: str) -> Recording:
        """The zone's values. Whatever is wrong with a file is told as the port tells it."""
        try:
            return self._load(zone)
        except (ValueError, OSError) as error:  # a file of the user's, so anything may stand in it
            cause, fix = getattr(error, "cause", f"{self.name} cannot be read: {error}"), getattr(error, "fix", "")
            raise ForecastInvalid(zone, InvalidReason.MALFORMED, cause, fix) from error

    def _check_inside(self, zone: str, recording: Recording, now_s: float) -> None:
        if now_s >= recording.end_s:
            ended = datetime.fromtimestamp(recording.end_s, UTC)
            cause = f"{self.name} ends at {ended:%Y-%m-%dT%H:%MZ}"
            fix = "Extend the trace, or start with a clock inside it."
            raise ForecastInvalid(zone, InvalidReason.PAST_ONLY, cause, fix)
        if now_s < recording.start_s:
            begins = datetime.fromtimestamp(recording.start_s, UTC)
            raise ForecastInvalid(zone, InvalidReason.STARTS_LATE, f"{self.name} begins at {begins:%Y-%m-%dT%H:%MZ}")

    def _series(
        self,
        zone: str,
        recording: Recording,
        first: int,
        stop: int,
        quality: Quality,
        issued: datetime,
        fetched: datetime,
    ) -> Series:
        total = len(recording.intensity_g_per_kwh)
        stop = stop if self._repeats else min(stop, total)
        periods = np.arange(first, stop)
        if self._repeats:
            outside = (periods < 0) | (periods >= total)
            weeks = round(_WEEKS_S / recording.step_s)
            periods = np.where(outside, np.mod(periods, weeks), periods)
        edges = recording.start_s + recording.step_s * np.arange(first, stop + 1, dtype=np.float64)
        values = recording.intensity_g_per_kwh[periods]
        present = np.flatnonzero(~np.isnan(values))
        if len(present) == 0:
            cause = f"{self.name} has no value from {_stamp(edges[0])} to {_stamp(edges[-1])}"
            raise ForecastInvalid(zone, InvalidReason.EMPTY, cause)
        runs = np.split(present, np.flatnonzero(np.diff(present) > 1) + 1)
        return Series.of_stretches(
            [
                Series(
                    zone,
                    self.kind,
                    edges[run[0] : run[-1] + 2],
                    values[run[0] : run[-1] + 1],
                    (quality,) * len(run),
                    self.name,
                    issued,
                    fetched,
                    self.attribution,
                    self._demo,
                )
                for run in runs
            ]
        )


def _stamp(moment_s: float) -> str:
    return datetime.fromtimestamp(float(moment_s), UTC).strftime("%Y-%m-%dT%H:%MZ")


@lru_cache(maxsize=1)
def _bundled_lines() -> Mapping[str, str]:
    """One line of text a zone: `start_utc,step_s,deltas...`."""
    text = gzip.decompress(_BUNDLED.read_bytes()).decode("ascii")
    return {zone: rest for zone, _, rest in (row.partition(",") for row in text.splitlines()[1:])}


def _bundled_zone(zone: str) -> Recording:
    start, step, deltas = _bundled_lines()[zone].split(",", 2)
    hundredths = np.cumsum(np.fromstring(deltas, dtype=np.int64, sep=","))
    return Recording(datetime.fromisoformat(start).timestamp(), float(step), hundredths / 100.0)


def _open(_: Clock, trace: Path | None, __: Environment) -> Provider:
    return TraceProvider.open(trace) if trace is not None else TraceProvider.bundled()


SPEC = ProviderSpec(
    name="trace",
    about="recorded values: the bundled demonstration year, or your own CSV or Parquet",
    open=_open,
    kind=None,
    live=False,
)
