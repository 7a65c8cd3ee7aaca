"""One declared number for each zone: for sites of their own plant, and for tests of everything else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from windward.domain.clock import Clock, utc
from windward.domain.series import Kind, Quality, Series
from windward.grid.port import Provider, UnknownZone, checked_range, checked_zone
from windward.grid.provider_spec import Environment, ProviderSpec, declared_kind, declared_pairs

HORIZON = timedelta(hours=168)
HOUR = timedelta(hours=1)
INTENSITY_VARIABLE, KIND_VARIABLE = "WINDWARD_STATIC_INTENSITY", "WINDWARD_STATIC_KIND"


class StaticProvider:
    """The same intensity at all times, `estimated`: waiting gains nothing, a place may.

    Args:
        intensity_g_per_kwh: zone -> what the administrator declares.
        kind: what the numbers count, as declared.
    """

    name = "static"
    revised_for = timedelta(0)

    def __init__(self, intensity_g_per_kwh: Mapping[str, float], kind: Kind) -> None:
        if not intensity_g_per_kwh:
            raise ValueError("no zone is given: state each as ZONE=g/kWh")
        for zone, value in intensity_g_per_kwh.items():
            checked_zone(zone)
            if not 0 <= value <= 2000:
                raise ValueError(f"{zone}={value:g}: an intensity lies between 0 and 2000 g/kWh")
            if 0 < value < 1:
                cause = "reads like kg/kWh, and grams are asked for: no zone is below 1 g/kWh all the time"
                raise ValueError(f"{zone}={value:g} {cause}; write {zone}={1000 * value:g}")
        self.kind = kind
        self._values = dict(intensity_g_per_kwh)

    def zones(self) -> tuple[str, ...]:
        return tuple(self._values)

    def issue(self, zone: str, now: datetime) -> Series:
        start = utc(now).replace(minute=0, second=0, microsecond=0)
        return self._series(zone, start, start + HORIZON, start)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        checked_range(start, end)
        first = utc(start).replace(minute=0, second=0, microsecond=0)
        last = utc(end)
        return self._series(zone, first, last, last)

    def _series(self, zone: str, start: datetime, end: datetime, issued: datetime) -> Series:
        if checked_zone(zone) not in self._values:
            raise UnknownZone(zone, "no intensity is declared for it", f"Declared are {', '.join(self._values)}.")
        hours = max(1, -int((start - end) // HOUR))
        values = [self._values[zone]] * hours
        return Series.regular(
            zone, self.kind, start, HOUR, values, quality=Quality.ESTIMATED, source=self.name, issued_at=issued
        )


def _open(_: Clock, __: Path | None, env: Environment) -> Provider:
    pairs = declared_pairs(env, INTENSITY_VARIABLE, "ZONE=g/kWh")
    try:
        values = {zone: float(value) for zone, value in pairs.items()}
    except ValueError as e:
        raise ValueError(f"{INTENSITY_VARIABLE}: {e}; write DE=380,FR=60") from e
    return StaticProvider(values, declared_kind(env, KIND_VARIABLE))


SPEC = ProviderSpec(
    name=StaticProvider.name,
    about="one declared number for each zone",
    open=_open,
    kind=None,
    required=(INTENSITY_VARIABLE, KIND_VARIABLE),
    live=False,
)
