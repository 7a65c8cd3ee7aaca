"""The cases of the planner's bench; each returns its figures."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from bench.planner.fleets import Made, draw, openb
from bench.planner.later import later
from bench.planner.online import HOLD_OUT, TUNED, Fleet, Recorded, bound_g, fleet_of, operated, recorded
from bench.planner.oracle import cached
from bench.planner.single import interrupt, power_cap, window_exact
from bench.planner.tools import Missing, Settings, bound_of, rounded, share, timed

from windward import planning
from windward.planning.arrays.instance import Instance
from windward.planning.arrays.solve import Budget, Solution, solve
from windward.simulation import Foresight, Outcome

WARM = Budget(warm_iterations=5, theta=0.2, polish=1)


def overuse(instance: Instance, made: Solution) -> float:
    """Unit-slots beyond capacity: must be 0."""
    excess = instance.use(made.lane, made.start) - instance.cap
    return float(excess[excess > 1e-9].sum())


def _fleets(s: Settings, count: int, util: float, runs: int, seeds: list[int], numpy_too: bool) -> dict[str, Any]:
    shares, gaps, missed, over, fast, slow, savings = [], [], 0, 0.0, [], [], []
    for seed in seeds:
        made = draw(s.data, count, seed, util=util)
        x = made.instance
        bound = bound_of(x, s.compiled, 400 if count <= 20_000 else 120)
        if s.compiled:
            solve(x, compiled=True)
            answer, seconds = timed(runs, lambda x=x: solve(x, compiled=True))  # type: ignore[misc]
            fast.append(seconds)
        if numpy_too or not s.compiled:
            answer, seconds = timed(runs, lambda x=x: solve(x, compiled=False))  # type: ignore[misc]
            slow.append(seconds)
        shares.append(share(made.now_g.sum(), answer.total_g, bound))
        savings.append(100 * (1 - bound / made.now_g.sum()))
        gaps.append(100 * answer.gap)
        missed += len(answer.late)
        over += overuse(x, answer)
    out = {"bound_share": np.mean(shares), "worst": min(shares), "bound_saving": np.mean(savings), "missed": missed,
           "overused": over, "own_gap": np.mean(gaps)}  # fmt: skip
    if slow:
        out["seconds_numpy"] = np.median(slow)
    if fast:
        out["seconds_compiled"] = np.median(fast)
    return out


def p3(s: Settings) -> dict[str, Any]:
    """fleet10k: 10,000 jobs in 5 zones, capacity for load / 0.6; share of the dual bound, late jobs, seconds"""
    return rounded(_fleets(s, s.jobs or 10_000, 0.6, s.runs, s.seeds, True))


def p4(s: Settings) -> dict[str, Any]:
    """fleet100k: the same with 100,000 jobs, at utilisation 0.6 and 0.8"""
    if not s.compiled:
        raise Missing("numba is not installed: pip install windward[compiled]")
    out: dict[str, Any] = {}
    seeds = s.seeds[:2]
    for util, tail in ((0.6, ""), (0.8, "_util08")):
        found = _fleets(s, s.jobs or 100_000, util, min(3, s.runs), seeds, False)
        out |= {k + tail: v for k, v in found.items()}
    if s.million:
        made = draw(s.data, 1_000_000, 0)
        answer, seconds = timed(1, lambda: solve(made.instance, compiled=True))
        now = made.now_g.sum()
        out |= {
            "million_seconds": seconds,
            "million_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "million_late": len(answer.late),
            "million_own_bound_share": share(now, answer.total_g, answer.bound_g),
        }
    return rounded(out)


def p5(s: Settings) -> dict[str, Any]:
    """warm replan: p3 an hour later, with the prices and places of the plan before"""
    shares, seconds, cold, moved = [], [], [], []
    for seed in s.seeds:
        made = draw(s.data, s.jobs or 10_000, seed)
        first = solve(made.instance, compiled=s.compiled)
        rest, jobs, before = later(made.instance, first.lane, first.start, 1)
        solve(rest, WARM, warm=first.mu, begin=before, compiled=s.compiled)
        answer, t = timed(
            s.runs,
            lambda r=rest, f=first, b=before: solve(r, WARM, warm=f.mu, begin=b, compiled=s.compiled),  # type: ignore[misc]
        )
        _, c = timed(1, lambda r=rest: solve(r, compiled=s.compiled))  # type: ignore[misc]
        bound = bound_of(rest, s.compiled)
        shares.append(share(made.now_g[jobs].sum(), answer.total_g, bound))
        moved.append(float(np.mean((answer.lane != before.lane) | (answer.start != before.start))))
        seconds.append(t)
        cold.append(c)
    return rounded({"bound_share": np.mean(shares), "seconds": np.median(seconds), "seconds_cold": np.median(cold),
                    "moved": 100 * np.mean(moved)})  # fmt: skip


def _against_mip(s: Settings, fleets: list[tuple[str, Made, int]]) -> dict[str, Any]:
    """Fleets, each with its tries: so many as take about the case's seconds compiled. A thousand where numpy runs."""
    out: dict[str, Any] = {}
    shares = []
    over, late, slowest = 0.0, 0, 0.0
    for name, made, tries in fleets:
        mip = cached(made.instance, whole=True, seconds=s.mip_s, folder=s.mip_cache)
        if mip is None:
            continue
        if not np.isfinite(mip["found_g"]):  # no plan for all jobs is known: there is nothing to compare with
            print(f"    {name}: left out, the MIP found no plan for all jobs", flush=True)
            continue
        budget = Budget(tries=tries if s.compiled else 1_000)
        solve(made.instance, replace(budget, tries=10), compiled=s.compiled)
        answer, seconds = timed(
            min(3, s.runs),
            lambda m=made, b=budget: solve(m.instance, b, compiled=s.compiled),  # type: ignore[misc]
        )
        now = made.now_g.sum()
        shares.append(0.0 if len(answer.late) else _of_mip(now, answer.total_g, mip["found_g"]))
        over += overuse(made.instance, answer)
        late += len(answer.late)
        slowest = max(slowest, seconds)
        print(
            f"    {name}: saving {100 * (1 - answer.total_g / now):.2f} %, MIP {100 * (1 - mip['found_g'] / now):.2f} %"
            f"{' (optimal)' if mip['optimal'] else ''}, its bound {100 * (1 - mip['bound_g'] / now):.2f} %, "
            f"grams over the MIP's {100 * (answer.total_g / mip['found_g'] - 1):+.2f} %, {seconds:.2f} s",
            flush=True,
        )
        out[name.replace(" ", "_")] = shares[-1]
    if not shares:
        raise Missing("no MIP in the cache and none allowed (MIP_S=0)")
    return rounded({"mip_share": min(shares), "overused": over, "late": late, "seconds": slowest, **out})


def _of_mip(now_g: float, plan_g: float, mip_g: float) -> float:
    """Per cent of the MIP's saving, 150 at most: a MIP that hardly saves (or found nothing) is easily beaten."""
    if now_g - mip_g < 0.02 * now_g:
        return 150.0 if plan_g <= mip_g else 0.0
    return min(150.0, 100 * (now_g - plan_g) / (now_g - mip_g))


def _few(s: Settings, count: int) -> list[int]:
    """The seeds of a case that needs a MIP for each."""
    return s.seeds[: s.mip_fleets or count]


def p6(s: Settings) -> dict[str, Any]:
    """small: 100 jobs on capacity 4, and 400 jobs of an accelerator trace; share of the MIP's saving"""
    fleets = [(f"100 cap 4 seed {i}", draw(s.data, 100, i, cap=4, most_units=4), 380_000) for i in _few(s, 3)]
    fleets += [
        (f"openb 400 seed {i}", made, 250_000) for i in _few(s, 2) if (made := openb(s.data, 400, i)) is not None
    ]
    return _against_mip(s, fleets)


def _tight(s: Settings, count: int, cap: int, seed: int) -> Made:
    return draw(s.data, count, seed, cap=cap, most_units=min(8, cap), days=14 if count == 1000 else 12)


def p7(s: Settings) -> dict[str, Any]:
    """tight: 300 jobs on capacity 4 and 8, 1,000 on 13 and 19; share of what a MIP saves in its seconds"""
    sizes = ((300, 4, 400_000), (300, 8, 400_000), (1000, 13, 200_000), (1000, 19, 200_000))
    fleets = [
        (f"{n} cap {cap} seed {i}", _tight(s, n, cap, i), tries) for n, cap, tries in sizes
        for i in _few(s, 2)
    ]  # fmt: skip
    return _against_mip(s, fleets)


def _fortnights(s: Settings, days: tuple[int, ...], count: int) -> tuple[Recorded, list[Fleet]]:
    s.need("forecast")
    if s.compiled:
        planning.prefer_compiled()
    w = recorded(s.data)
    if not w.zones():
        raise Missing("no forecast with forecast_gco2_kwh in the data")
    drawn = [fleet_of(s.data, w, day, s.jobs or count, s.seeds[0]) for day in days[: s.fortnights or len(days)]]
    fleets = [f for f in drawn if f is not None]
    if not fleets:
        raise Missing(f"the recording ends at {w.end}, too early for the fortnights")
    return w, fleets


def _told(found: list[tuple[Outcome, float]]) -> dict[str, Any]:
    """Of outcomes, each with the bound of its fleet."""
    shares = [share(o.run_now_g, o.emissions_g, least_g) for o, least_g in found]
    return rounded(
        {
            "fortnights": len(found),
            "jobs_each": found[0][0].arrived,
            "bound_share": np.mean(shares),
            "worst": min(shares),
            "best": max(shares),
            "bound_saving": np.mean([100 * (1 - least_g / o.run_now_g) for o, least_g in found]),
            "late": sum(o.missed for o, _ in found),
            "changes_per_job": np.mean([o.moves for o, _ in found]),
            "wait_h": np.mean([o.wait_mean_h for o, _ in found]),
        }
    )


def p8(s: Settings) -> dict[str, Any]:
    """online: the operator's own loop and planner on forecasts as they were issued; share of the clairvoyant bound"""
    w, fleets = _fortnights(s, HOLD_OUT, 2500)
    return _told([(operated(w, f).outcomes[0], bound_g(w, f, s.compiled)) for f in fleets])


def p9(s: Settings) -> dict[str, Any]:
    """online, what is worth what: no issues, yesterday repeated, everything known, each job alone; other fortnights"""
    w, fleets = _fortnights(s, TUNED, 2500)
    bounds = [bound_g(w, f, s.compiled) for f in fleets]
    ways: dict[str, dict[str, Any]] = {
        "issued": {},
        "own": {"published": False},
        "yesterday": {"foresight": Foresight.YESTERDAY},
        "clairvoyant": {"policies": ("clairvoyant",)},
        "window": {"policies": ("window",)},
    }
    out: dict[str, Any] = {}
    for name, way in ways.items():
        told = _told([(operated(w, f, **way).outcomes[0], b) for f, b in zip(fleets, bounds, strict=True)])
        out[name] = [told["bound_share"], told["worst"], told["changes_per_job"], told["late"]]
        print(f"    {name}: {told}", flush=True)
    return out


def p10(s: Settings) -> dict[str, Any]:
    """interruptible online: p8, jobs may pause at 0.25 h a resume, room for all; share of one who knows everything"""
    w, fleets = _fortnights(s, HOLD_OUT, 60)
    saved = np.zeros(3)
    for f in fleets:
        online, knowing = operated(w, f, ("windward", "clairvoyant"), pausable=True).outcomes
        saved += [online.saved_g, knowing.saved_g, online.run_now_g]
    return rounded(
        {
            "fortnights": len(fleets),
            "jobs_each": len(fleets[0].arrive),
            "perfect_share": 100 * saved[0] / saved[1],
            "saving": 100 * saved[0] / saved[2],
            "perfect_saving": 100 * saved[1] / saved[2],
        }
    )


def p12(s: Settings) -> dict[str, Any]:
    """certificate: the printed bound against the linear relaxation, and the printed gap against the true one"""
    out = []
    for seed in s.seeds[:3]:
        made = draw(s.data, 1000, seed)
        answer = solve(made.instance, compiled=s.compiled)
        lp = cached(made.instance, whole=False, seconds=600, folder=s.mip_cache)
        assert lp is not None
        out.append((answer.bound_g / lp["found_g"] - 1, answer.gap, answer.total_g / lp["found_g"] - 1))
    bound, gap, true = (100 * np.array(column) for column in zip(*out, strict=True))
    return rounded({"bound_over_lp": float(bound.max()), "own_gap": float(gap.mean()), "true_gap": float(true.mean())})


CASES: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "p1": window_exact,
    "p2": interrupt,
    "p3": p3,
    "p4": p4,
    "p5": p5,
    "p6": p6,
    "p7": p7,
    "p8": p8,
    "p9": p9,
    "p10": p10,
    "p11": power_cap,
    "p12": p12,
}
