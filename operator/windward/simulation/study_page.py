"""A simulation or back-test as one HTML page: drawn as SVG here, so that it opens anywhere and asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from windward.reports import figures
from windward.simulation.result import Outcome, Result

# cividis-like: told apart by lightness, not by red and green
_COLOURS = ("#8a8a7a", "#b5a95b", "#575d6d", "#00336f", "#e0c94f")
_WIDTH, _ROW, _LEFT = 760, 30, 130
FIGURES = ("emissions", "saved", "of possible", "wait", "p95", "late", "failed", "runs/job", "changes/job")

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:820px;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.25rem}h2{font-size:1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{padding:.25rem .5rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}
svg text{font:12px system-ui,sans-serif;fill:#1b1f24}.muted{color:#666}.mark{color:#a40000;font-weight:600}
"""


def page(study: Result) -> str:
    """Returns a simulation or a back-test as a page of HTML; every word of its input is escaped."""
    mark = '<p class="mark">Simulated: no job ran.</p>'
    if study.demo:
        mark = '<p class="mark">Simulated: no job ran. DEMO TRACE 2022: not for reporting.</p>'
    faults = f" Faults: {', '.join(f'{k} {v:g}' for k, v in study.faults.items())}." if study.faults else ""
    about = (
        f"Foresight: {study.foresight}. Intensities: {study.source}. "
        f"{study.start:%Y-%m-%d} to {study.end:%Y-%m-%d}.{faults} "
        "Savings are against running each job at once, at home, unbroken: the same for all policies. They may be "
        "negative: failed, lost and repeated work counts, and a job that did not finish saved nothing. The line marks "
        "what no plan can exceed: each job in its cleanest hours, the coming hours known, capacity ignored."
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(study.title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{escape(study.title)}</h1>{mark}<p class="muted">{escape(about)}</p>'
        f"<h2>Saved, per cent of running now</h2>{_bars(study)}"
        f"<h2>Saved by month of submission, per cent</h2>{_months(study)}"
        f"<h2>Figures</h2>{_table(study)}</body></html>\n"
    )


def _bars(study: Result) -> str:
    shares = [100 * o.saved_share for o in study.outcomes]
    run_now = study.outcomes[0].run_now_g
    bound = 100 * (1 - study.bound_g / run_now) if run_now else 0.0
    low, high = min(0.0, *shares), max(1.0, bound, *shares)

    def x(v: float) -> float:
        return _LEFT + (v - low) / (high - low) * (_WIDTH - _LEFT - 70)

    parts = []
    for i, (o, v) in enumerate(zip(study.outcomes, shares, strict=True)):
        y = 8 + i * _ROW
        a, b = sorted((x(0.0), x(v)))
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(o.policy)}</text>')
        parts.append(f'<rect x="{a:.1f}" y="{y}" width="{max(b - a, 1):.1f}" height="20" fill="{_colour(i)}"/>')
        parts.append(f'<text x="{b + 6:.1f}" y="{y + 14}">{_percent(v)}</text>')
    height = 16 + len(shares) * _ROW
    parts.append(
        f'<line x1="{x(bound):.1f}" x2="{x(bound):.1f}" y1="0" y2="{height - 8}"  stroke="#1b1f24"'
        ' stroke-dasharray="4 3"/>'
    )
    parts.append(f'<text x="{x(bound) + 4:.1f}" y="{height + 6}" text-anchor="end">possible: {_percent(bound)}</text>')
    return _svg(height + 12, parts)


def _months(study: Result) -> str:
    """A line a policy; a month without jobs is left out."""
    months = sorted({f"{j.submitted:%Y-%m}" for j in study.outcomes[0].jobs})
    lines = [[_saved(o, m) for m in months] for o in study.outcomes]
    known = [v for line in lines for v in line if v is not None]
    low, high = min([0.0, *known]), max([1.0, *known])
    height, step = 220, (_WIDTH - 60 - 110) / max(1, len(months) - 1)

    def y(v: float) -> float:
        return 20 + (high - v) / (high - low) * (height - 56)

    parts = [f'<line x1="50" x2="{_WIDTH - 110}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="#bbb"/>']
    for v in (low, high):
        parts.append(f'<text x="44" y="{y(v) + 4:.1f}" text-anchor="end">{round(v) + 0} %</text>')
    for i, month in enumerate(months):
        parts.append(f'<text x="{50 + i * step:.1f}" y="{height - 8}" text-anchor="middle">{escape(month[2:])}</text>')
    taken: list[float] = []
    for i, (o, line) in enumerate(zip(study.outcomes, lines, strict=True)):
        points = [(50 + k * step, y(v)) for k, v in enumerate(line) if v is not None]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_colour(i)}" stroke-width="2"/>')
        if points:
            label = _apart(points[-1][1], taken)
            parts.append(f'<text x="{points[-1][0] + 8:.1f}" y="{label + 4:.1f}">{escape(o.policy)}</text>')
    return _svg(height, parts)


def _apart(y: float, taken: list[float]) -> float:
    """A place for a label near `y` that no other label holds."""
    for shift in (0, 14, -14, 28, -28, 42, -42, 56, 70):
        if y + shift > 6 and all(abs(y + shift - t) >= 13 for t in taken):
            taken.append(y + shift)
            return y + shift
    return y


def _saved(o: Outcome, month: str) -> float | None:
    jobs = [j for j in o.jobs if f"{j.submitted:%Y-%m}" == month and j.weighed]
    before = sum(j.run_now_g or 0.0 for j in jobs)
    return 100 * sum(j.saved_g for j in jobs) / before if before else None


def outcome_cells(o: Outcome, bound_g: float) -> list[str]:
    """Returns the figures of one policy, in the order of `FIGURES`."""
    share = o.share_of_bound(bound_g)
    return [
        figures.grams(o.emissions_g),
        _percent(100 * o.saved_share),
        "" if share is None else _percent(share),
        f"{o.wait_mean_h:.1f} h",
        f"{o.wait_p95_h:.1f} h",
        str(o.missed),
        str(o.failed + o.unfinished),
        f"{o.runs_per_job:.2f}",
        f"{o.moves:.2f}",
    ]


def _table(study: Result) -> str:
    rows = [(f"{o.policy}: {o.what}", *outcome_cells(o, study.bound_g)) for o in study.outcomes]
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{h}</th>' for h in ('policy', *FIGURES))}</tr>{body}</table>"


def _percent(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f} %"  # no minus before a zero


def _svg(height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" width="100%" role="img">{"".join(parts)}</svg>'


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]
