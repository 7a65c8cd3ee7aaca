"""Text for terminals: strips, tables, lines of its width. Words for every state; colour only where it is wanted."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from windward.domain.series import Series, distinct
from windward.reports.shown import SHADES, shown

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = " .:-=+*#"
NARROWEST = 12  # a column of text is not wrapped into fewer cells


def unicode_wanted() -> bool:
    """Whether the terminal can be expected to show block characters."""
    encoding = (sys.stdout.encoding or "").lower()
    return os.environ.get("TERM") != "dumb" and "utf" in encoding


def colour_wanted() -> bool:
    """https://no-color.org: NO_COLOR wins; then FORCE_COLOR; then whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def width() -> int | None:
    """Cells of a line: `COLUMNS`, else the terminal's; None where the output goes to a file or another program."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return max(20, int(given))
    if not sys.stdout.isatty():
        return None
    try:
        return max(20, os.get_terminal_size(sys.stdout.fileno()).columns)
    except OSError:
        return None


def cells(text: str) -> int:
    """How many cells of a terminal `text` takes: two for a wide character, none for a colour."""
    bare = plain(text)
    if bare.isascii():
        return len(bare)
    from rich.cells import cell_len

    return cell_len(bare)


def strip(values: Sequence[float], low: float, high: float) -> str:
    """One character a value, its height between `low` and `high`."""
    marks = BLOCKS if unicode_wanted() else ASCII
    span = max(high - low, 1e-9)
    parts = [marks[min(len(marks) - 1, max(0, int((v - low) / span * len(marks))))] for v in values]
    if not colour_wanted():
        return "".join(parts)
    return "".join(f"\x1b[38;5;{_shade((v - low) / span)}m{c}" for v, c in zip(values, parts, strict=True)) + "\x1b[0m"


def _shade(share: float) -> int:
    return SHADES[min(7, max(0, int(share * 8)))]


def step_hours(hours: int, room: int | None) -> int:
    """Hours that one cell of a strip stands for, so that `hours` of them fit into `room` cells."""
    if room is None:
        return 1
    return next((n for n in (1, 2, 3, 4, 6, 8, 12) if -(-hours // n) <= room), 24)


def hourly(series: Series, start: datetime, hours: int, step: int = 1) -> list[float]:
    """Mean intensity of each `step` hours from `start`, as far as the series knows."""
    out = []
    for h in range(0, hours, step):
        a = max(start + timedelta(hours=h), series.start)
        b = start + timedelta(hours=h + step)
        if b > series.end or b <= a:
            break
        out.append(series.mean(a, b))
    return out


def lines(some: Sequence[str], indent: int = 0) -> str:
    """Lines for a terminal: harmless, and wrapped to its width with `indent` cells before what goes on."""
    room = width()
    out: list[str] = []
    for line in some:
        safe = shown(line)
        out += [safe] if room is None or cells(safe) <= room else wrapped(safe, room, indent)
    return "\n".join(out)


def wrapped(line: str, room: int, indent: int = 0) -> list[str]:
    """`line` in pieces of at most `room` cells, broken between words where there are any."""
    if "\x1b" in line:
        return [line]  # a strip, which fits already
    out, rest, pad = [], line, ""
    while cells(rest) > room:
        cut = _fitting(rest, room)
        space = rest.rfind(" ", len(pad) + 1, cut + 1)
        cut = space if space > len(pad) + (len(rest[:cut]) - len(pad)) // 3 else cut
        out.append(rest[:cut].rstrip())
        pad = " " * min(indent, room // 2)
        rest = pad + rest[cut:].lstrip()
    return [*out, rest.rstrip()]


def _fitting(text: str, room: int) -> int:
    """How many characters of `text` fit into `room` cells; at least one."""
    if text.isascii():
        return room
    taken = 0
    for i, c in enumerate(text):
        taken += cells(c)
        if taken > room:
            return max(1, i)
    return len(text)


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns two spaces apart, as kubectl prints them; `right` names those with figures.

    Where they do not fit into the terminal, the widest are wrapped; where that does not help, each row becomes a
    paragraph, its first row (the header) naming each line.
    """
    safe = [[shown(c) for c in row] for row in rows]
    widths = [max(cells(r[i]) for r in safe) for i in range(len(safe[0]))]
    room = width()
    if room is not None and not _shrink(widths, room, frozenset(right)):
        return _stacked(safe, room)
    out = []
    for row in safe:
        broken = [wrapped(c, w) if cells(c) > w else [c] for c, w in zip(row, widths, strict=True)]
        for n in range(max(len(b) for b in broken)):
            parts = []
            for i, b in enumerate(broken):
                cell = b[n] if n < len(b) else ""
                pad = " " * (widths[i] - cells(cell))
                parts.append(pad + cell if i in right else cell + pad)
            out.append("  ".join(parts).rstrip())
    return "\n".join(out)


def _shrink(widths: list[int], room: int, fixed: frozenset[int]) -> bool:
    """Make the widest columns narrower until all fit into `room`; False where they cannot."""
    over = sum(widths) + 2 * (len(widths) - 1) - room
    while over > 0:
        i = max((i for i in range(len(widths)) if i not in fixed), key=lambda i: widths[i], default=None)
        if i is None or widths[i] <= NARROWEST:
            return False
        cut = min(over, max(1, widths[i] - max(NARROWEST, _second(widths, i))))
        widths[i] -= cut
        over -= cut
    return True


def _second(widths: Sequence[int], widest: int) -> int:
    return max((w for i, w in enumerate(widths) if i != widest), default=0)


def _stacked(rows: Sequence[Sequence[str]], room: int) -> str:
    head, *body = rows
    label = min(max(cells(h) for h in head), room // 2)
    out = []
    for row in body:
        named = [(h, c) for h, c in zip(head, row, strict=True) if c.strip()]
        out.append(
            "\n".join(x for h, c in named for x in wrapped(f"{h[:label]:{label}}  {c}".rstrip(), room, label + 2))
        )
    return "\n\n".join(out)


def plain(text: str) -> str:
    """`text` without colour codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def best_start(series: Series, now: datetime, until_: datetime, length: timedelta) -> tuple[datetime, float] | None:
    """The cleanest window of `length` in [now, until_]: start and mean intensity."""
    last = min(until_, series.end) - length
    if last < max(now, series.start):
        return None
    d = length.total_seconds()
    starts = np.concatenate([[now.timestamp(), last.timestamp()], series.edges, series.edges - d])
    starts = distinct(starts[(starts >= now.timestamp()) & (starts <= last.timestamp())])
    area = (series.integral(starts + d) - series.integral(starts)) / (d / 3600)
    i = int(np.argmin(area))
    return datetime.fromtimestamp(float(starts[i]), UTC), float(area[i])
