"""The frontier as one SVG page: perplexity over joules per token, drawn by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from html import escape

from windward_worker.compress.pareto import Point

WIDTH, HEIGHT = 860, 520
LEFT, RIGHT, TOP, BOTTOM = 76, 150, 64, 64
LINE = 120  # characters of a line below
LABEL = (120, 14)  # room that a label needs, across and down
FRONT, BEHIND, INK = "#0b6e4f", "#9aa5a0", "#1d2b27"


def _scale(values: Seq[float], begin: float, end: float) -> tuple[list[float], float, float]:
    """Places of the values on a logarithmic axis between two pixels, and the axis' own ends."""
    low, high = math.log(min(values)), math.log(max(values))
    room = max((high - low) * 0.08, 0.01)
    low, high = low - room, high + room
    places = [begin + (math.log(v) - low) / (high - low) * (end - begin) for v in values]
    return places, math.exp(low), math.exp(high)


def _ticks(low: float, high: float) -> list[float]:
    """Up to six round values between two ends."""
    step = (high - low) / 5
    unit = 10 ** math.floor(math.log10(step))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= step)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)]


def _axis(low: float, high: float, begin: float, end: float, *, across: bool) -> list[str]:
    out = []
    for value in _ticks(low, high):
        at = begin + (math.log(value) - math.log(low)) / (math.log(high) - math.log(low)) * (end - begin)
        label = f"{value:.4g}"
        if across:
            line = f'x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}"'
            text = f'x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle"'
        else:
            line = f'x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"'
            text = f'x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end"'
        out.append(f'<line {line} stroke="#e3e8e6"/><text {text} font-size="12">{label}</text>')
    return out


def _apart(xs: Seq[float], ys: Seq[float]) -> list[float]:
    """Heights of the labels: each point's own, or as far below it as keeps it off those before it."""
    placed: dict[int, float] = {}
    for i in sorted(range(len(xs)), key=lambda i: ys[i]):
        at = ys[i]
        for other in sorted((j for j in placed if abs(xs[j] - xs[i]) < LABEL[0]), key=lambda j: placed[j]):
            if abs(placed[other] - at) < LABEL[1]:
                at = placed[other] + LABEL[1]
        placed[i] = at
    return [placed[i] for i in range(len(xs))]


def page(points: Seq[Point], title: str, left_out: Seq[tuple[str, str]] = ()) -> str:
    """An SVG document. Filled: on the frontier (of all four costs); hollow: dominated; who did not run stands below.

    Raises ValueError for no points.
    """
    if not points:
        raise ValueError("a page needs at least one point")
    height = HEIGHT + (16 * len(left_out) + 8 if left_out else 0)
    joules = [max(p.joules_per_token, 1e-9) for p in points]
    xs, x_low, x_high = _scale(joules, LEFT, WIDTH - RIGHT)
    ys, y_low, y_high = _scale([p.perplexity for p in points], HEIGHT - BOTTOM, TOP)
    methods = ", ".join(sorted({p.method for p in points}))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" '
        f'fill="{INK}" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="30" font-size="18" font-weight="600">{escape(title)}</text>',
        f'<text x="{LEFT}" y="50" font-size="12">filled: on the frontier of perplexity, joules, speed and memory; '
        f"hollow: dominated; joules are {escape(methods)}</text>",
        *_axis(x_low, x_high, LEFT, WIDTH - RIGHT, across=True),
        *_axis(y_low, y_high, HEIGHT - BOTTOM, TOP, across=False),
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 18}" font-size="13" text-anchor="middle">'
        f"joules per token ({escape(methods)})</text>",
        f'<text transform="translate(20 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" font-size="13" '
        'text-anchor="middle">perplexity</text>',
    ]
    front = sorted((x, y) for x, y, p in zip(xs, ys, points, strict=True) if not p.dominated)
    if len(front) > 1:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in front)
        out.append(f'<polyline points="{line}" fill="none" stroke="{FRONT}" stroke-opacity="0.35" stroke-width="2"/>')
    for x, y, label, p in zip(xs, ys, _apart(xs, ys), points, strict=True):
        fill, stroke = ("#ffffff", BEHIND) if p.dominated else (FRONT, FRONT)
        text = (
            f"{p.variant}: perplexity {p.perplexity:.3f}, {p.joules_per_token:.4g} J/token, "
            f"{p.tokens_per_s:.1f} tokens/s, {p.memory_mb:.1f} MB"
        )
        out.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{fill}" stroke="{stroke}" stroke-width="2">'
            f"<title>{escape(text)}</title></circle>"
            f'<text x="{x + 10:.1f}" y="{label + 4:.1f}" font-size="12">{escape(p.variant)}</text>'
        )
    for i, (name, why) in enumerate(left_out):
        text = f"left out: {name}: {why}"
        short = text if len(text) <= LINE else text[: LINE - 1] + "…"
        out.append(
            f'<text x="{LEFT}" y="{HEIGHT + 14 + 16 * i}" font-size="12">{escape(short)}'
            f"<title>{escape(text)}</title></text>"
        )
    return "\n".join([*out, "</svg>", ""])
