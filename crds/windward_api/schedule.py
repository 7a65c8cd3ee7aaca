"""The schedule of a GreenCronJob: the grammar of Kubernetes CronJobs, with the same ticks.

The grammar and the meaning of each schedule are those of the parser that Kubernetes uses (github.com/robfig/cron v3,
`ParseStandard`); `tests/api/schedules.json` holds what that parser itself answers. What follows from them:

- Day of month and day of week: where either is `*` or `?`, both must match; else one of the two is enough. `*/n` with
  n > 1 counts as restricted. Sunday is 0.
- Local times that a zone skips do not fire; local times that it repeats fire twice.
- `@every` counts from the time that it is asked from, so from the last scheduled time or the creation.
"""

from __future__ import annotations

import re
from calendar import timegm
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

NEVER_FIRES = "spec.schedule: never fires: no such month has such a day; choose a day that exists"
NO_ZONE_INSIDE = "spec.schedule: must not set TZ or CRON_TZ: name the time zone in spec.timeZone"
ZONE_KNOWN = "spec.timeZone: must be an IANA time zone: write Europe/Berlin or UTC, for example"

_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
DESCRIPTORS = tuple(_DESCRIPTORS)
SHAPE = (
    "spec.schedule: must be a schedule of Kubernetes CronJobs: write minute hour day month weekday, as in "
    f"0 20 * * 1-5, or one of {', '.join(DESCRIPTORS)}, or @every 1h30m"
)

_MONTHS = {
    n: i for i, n in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_WEEKDAYS = {n: i for i, n in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_LONGEST_MONTH = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_YEARS_AHEAD = 5  # a schedule without a tick in as many years is taken to have none
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400

_DURATION = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")  # Go's time.ParseDuration
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_EVERY_S = 10 * 366 * _DAY_S


class Schedule(Protocol):
    """When something is due."""

    def following(self, after: datetime) -> datetime | None:
        """The first tick after `after`, UTC; None where there is none within five years."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """A fixed distance, counted from wherever one asks."""

    seconds: int

    def following(self, after: datetime) -> datetime | None:
        """`after`, without its fraction of a second, and the distance."""
        return after.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class _Field:
    """The numbers that a field names, and whether it is unrestricted (`*` or `?`)."""

    numbers: frozenset[int]
    star: bool


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields in a time zone."""

    minute: _Field
    hour: _Field
    day: _Field
    month: _Field
    weekday: _Field
    zone: ZoneInfo

    def following(self, after: datetime) -> datetime | None:
        """See `Schedule`. Searches month by month, then by days, hours and minutes; at most some 300 steps.

        The steps are those of the parser's own search, so that days without a midnight give what it gives.
        """
        t, moved, wrapped = (int(after.timestamp() // _MINUTE_S) + 1) * _MINUTE_S, False, True
        last_year = self._local(t).year + _YEARS_AHEAD
        while wrapped:
            t, moved = self._month(t, moved)
            if self._local(t).year > last_year:
                return None
            t, moved, wrapped = self._day(t, moved)
            if not wrapped:
                t, moved, wrapped = self._hour_and_minute(t, moved)
        return datetime.fromtimestamp(t, UTC)

    def never_fires(self) -> bool:
        """Whether no month that is named has a day that is named."""
        if not self.weekday.star:
            return not self.day.star and not self.day.numbers and not self.weekday.numbers
        return not any(d <= _LONGEST_MONTH[m] for m in self.month.numbers for d in self.day.numbers)

    def _month(self, t: int, moved: bool) -> tuple[int, bool]:
        """The first moment from `t` on in a month that is named."""
        while (local := self._local(t)).month not in self.month.numbers:
            if not moved:
                moved = True
                local = self._local(self._instant(local.year, local.month, 1, 0, 0))
            year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
            t = self._instant(year, month, local.day, local.hour, local.minute)
        return t, moved

    def _day(self, t: int, moved: bool) -> tuple[int, bool, bool]:
        """The first matching day from `t` on, at its first hour; or, wrapped, the first of the next month."""
        while not self._on_day(local := self._local(t)):
            if not moved:
                moved = True
                local = self._local(self._instant(local.year, local.month, local.day, 0, 0))
            t = self._instant(local.year, local.month, local.day + 1, local.hour, local.minute)
            hour = self._local(t).hour  # not 0 on a day without a midnight
            t += (24 - hour if hour > 12 else -hour) * _HOUR_S
            if self._local(t).day == 1:
                return t, moved, True
        return t, moved, False

    def _hour_and_minute(self, t: int, moved: bool) -> tuple[int, bool, bool]:
        """The first matching hour and minute of the day of `t`; or, wrapped, the next day's or hour's beginning."""
        while (local := self._local(t)).hour not in self.hour.numbers:
            if not moved:
                moved = True
                t = self._instant(local.year, local.month, local.day, local.hour, 0)
            t += _HOUR_S
            if self._local(t).hour == 0:
                return t, moved, True
        while (local := self._local(t)).minute not in self.minute.numbers:
            moved = True
            t += _MINUTE_S
            if self._local(t).minute == 0:
                return t, moved, True
        return t, moved, False

    def _on_day(self, local: datetime) -> bool:
        day = local.day in self.day.numbers
        weekday = local.isoweekday() % 7 in self.weekday.numbers
        return day and weekday if self.day.star or self.weekday.star else day or weekday

    def _local(self, t: int) -> datetime:
        return datetime.fromtimestamp(t, self.zone)

    def _offset_s(self, t: int) -> int:
        return int(self._local(t).utcoffset().total_seconds())  # type: ignore[union-attr]  # the zone is aware

    def _instant(self, year: int, month: int, day: int, hour: int, minute: int) -> int:
        """A local time as epoch seconds; one that is skipped or repeated is read as Go's time.Date reads it."""
        wall = timegm((year, month, day, hour, minute, 0))
        return wall - self._offset_s(wall - self._offset_s(wall))


@lru_cache(maxsize=1024)
def parse_schedule(text: str, time_zone: str = "UTC") -> Cron | Every:
    """The schedule that `text` describes in `time_zone`.

    Raises:
        ValueError: Kubernetes would refuse it as the schedule of a CronJob, or it never fires; the sentence names the
            field and what to do.
    """
    zone = parse_zone(time_zone)
    if "TZ" in text:
        raise ValueError(NO_ZONE_INSIDE)
    if text.startswith("@every "):
        return Every(_every_s(text))
    if text.startswith("@") and text not in _DESCRIPTORS:
        raise ValueError(f"{SHAPE}; {text!r} is none of them")
    words = _DESCRIPTORS.get(text, text).split()
    if len(words) != 5:
        raise ValueError(f"{SHAPE}; {text!r} has {len(words)} fields, not 5")
    schedule = Cron(
        _field("minute", words[0], 0, 59),
        _field("hour", words[1], 0, 23),
        _field("day", words[2], 1, 31),
        _field("month", words[3], 1, 12, _MONTHS),
        _field("weekday", words[4], 0, 6, _WEEKDAYS),
        zone,
    )
    if schedule.never_fires():
        raise ValueError(NEVER_FIRES)
    return schedule


def parse_zone(name: str) -> ZoneInfo:
    """The time zone called `name`.

    Raises:
        ValueError: there is none; a folder of zones (`Europe`), a path and the machine's own zone are none.
    """
    plain = re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name)
    if plain is None or name.lower() in ("local", "localtime", "posixrules"):
        raise ValueError(f"{ZONE_KNOWN}; {name!r} is none")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as e:  # unknown, no zone file, a folder
        raise ValueError(f"{ZONE_KNOWN}; {name!r} is none") from e


def latest(schedule: Cron | Every, after: datetime, until: datetime) -> datetime | None:
    """The newest tick in (`after`, `until`], or None. Takes some 50 searches whatever lies between."""
    first = schedule.following(after)
    if first is None or first > until:
        return None
    if isinstance(schedule, Every):
        return first + (until - first) // timedelta(seconds=schedule.seconds) * timedelta(seconds=schedule.seconds)
    second = schedule.following(first)
    if second is None or second > until:
        return first
    tick, span = second, second - first
    while until - span > second:  # back in growing steps to the first span that holds a tick
        candidate = schedule.following(until - span)
        if candidate is not None and candidate <= until:
            tick = candidate
            break
        span *= 2
    high = until
    # On by one tick, then halve the rest.
    while (candidate := schedule.following(tick)) is not None and candidate <= until:
        tick = candidate
        middle = tick + (high - tick) / 2
        candidate = schedule.following(middle)
        if candidate is not None and candidate <= until:
            tick = candidate
        else:
            high = middle
    return tick


def _every_s(text: str) -> int:
    """Seconds of `@every <duration>`, whole ones, as the parser cuts them; at least one."""
    words = text.removeprefix("@every ")
    if words == "0" or not _DURATION.fullmatch(words):
        raise ValueError(f"spec.schedule: {text!r}: write the distance with h, m and s, such as @every 1h30m")
    seconds = sum(float(n) * _DURATION_S[unit] for n, unit in _DURATION_PART.findall(words))
    if words.startswith("-") or seconds < 1 or seconds > _LONGEST_EVERY_S:
        raise ValueError(f"spec.schedule: {text!r}: the distance must lie between 1 s and ten years")
    return int(seconds)


def _field(name: str, text: str, low: int, high: int, names: dict[str, int] | None = None) -> _Field:
    """A list of ranges, each `*`, `?`, `n` or `n-m`, with `/step` after it; `n/step` runs to the end."""
    numbers: set[int] = set()
    star = False
    for part in filter(None, text.split(",")):
        values, free = _range(name, part, low, high, names or {})
        numbers.update(values)
        star = star or free
    if not numbers:
        raise ValueError(f"spec.schedule: {name}: {text!r} names nothing: write *, or a number from {low} to {high}")
    return _Field(frozenset(numbers), star)


def _range(name: str, part: str, low: int, high: int, names: dict[str, int]) -> tuple[range, bool]:
    span, *steps = part.split("/")
    first, *ends = span.split("-")
    star = first in ("*", "?")
    if len(steps) > 1 or (len(ends) > 1 and not star):
        raise _refused(name, part, low, high, names)
    a, b = (low, high) if star else (_number(first, names), _number(ends[0] if ends else first, names))
    step = _number(steps[0], {}) if steps else 1
    if a is None or b is None or step is None:
        raise _refused(name, part, low, high, names)
    if steps and not ends:
        b = high
    if not low <= a or not b <= high or a > b or step == 0:
        raise _refused(name, part, low, high, names)
    return range(a, b + 1, step), star and step == 1


def _number(text: str, names: dict[str, int]) -> int | None:
    if text.lower() in names:
        return names[text.lower()]
    return int(text) if re.fullmatch(r"\+?[0-9]{1,18}", text, re.ASCII) else None


def _refused(name: str, part: str, low: int, high: int, names: dict[str, int]) -> ValueError:
    named = f" or {', '.join(names)}" if names else ""
    hint = "; Sunday is 0" if name == "weekday" and "7" in part else ""
    return ValueError(
        f"spec.schedule: {name}: {part!r} is none: write *, a number from {low} to {high}{named}, a range low-high, "
        f"or either with /step{hint}"
    )
