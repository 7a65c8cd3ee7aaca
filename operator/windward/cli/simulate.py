"""`windward simulate` and `windward backtest`: what each policy would have done with a fleet, or with one's own job."""

from __future__ import annotations

import gc
import json
import random
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from windward import planning
from windward.cli import text
from windward.cli.errors import on_path, usage_error
from windward.cli.output_file import check_output_file
from windward.cli.schedules import ticks_of
from windward.cli.sources import Source, moment, nearest, span, unreadable
from windward.grid.ahead import lacking
from windward.grid.port import ProviderError
from windward.reports import figures
from windward.service.clock import SystemClock
from windward.simulation import POLICIES, Arrival, Faults, Foresight, Outcome, Result, from_trace, repeated, simulate
from windward.simulation.arrivals import drawn, regions_for, ticked
from windward.simulation.study_page import FIGURES, outcome_cells, page
from windward_api.greencronjob import GreenCronJob, GreenCronJobSpec
from windward_api.greenjob import GreenJob, GreenJobSpec
from windward_api.greenregion import GreenRegion

if TYPE_CHECKING:
    from windward.grid.trace import TraceProvider

S = TypeVar("S", bound=GreenJobSpec)
_MANY = 500  # runs: from here on, loading the compiled loops is worth its second
EVERY = "25h"  # meets every hour of the day
WARM_UP = timedelta(days=28)  # what a forecaster may learn from before the first job arrives


@dataclass(frozen=True, slots=True)
class Study:
    """What is common to both commands."""

    policies: str
    foresight: str
    trace: Path | None
    step: str
    seed: int
    page: Path | None
    output: str

    def chosen(self) -> list[str]:
        """The policies to compare."""
        if self.policies == "all":
            return list(POLICIES)
        return list(dict.fromkeys(p.strip() for p in self.policies.split(",")))

    def check(self) -> None:
        """Refuse what cannot be, before minutes are spent on it.

        Raises:
            CliError: an option is none.
        """
        if unknown := [p for p in self.chosen() if p not in POLICIES]:
            raise usage_error(f"--policy {unknown[0]}: not known", fix=f"all, or of {', '.join(POLICIES)}")
        if self.foresight not in list(Foresight):
            raise usage_error(f"--foresight {self.foresight}: not known", fix=f"one of {', '.join(Foresight)}")
        span(self.step, "--step")
        if self.page is not None:
            check_output_file("--page", self.page, example="study.html")


def simulate_fleet(
    study: Study,
    fleet: Path | None,
    zones: str,
    jobs: int,
    days: int,
    start: str,
    util: float,
    pausable: float,
    faults: str,
) -> None:
    """A fleet from a jobs trace, in regions that are full at times."""
    study.check()
    drawn_faults = _faults(faults, study.seed)
    actuals = _actuals(study.trace)
    names = _zones(zones, actuals)
    begin = moment(start, "--start") if start else _bounds(actuals, names)[0] + WARM_UP
    first, last = _bounds(actuals, names, begin.year)
    if not first <= begin or begin + timedelta(days=days) > last:
        problem = f"{days} days from {begin:%Y-%m-%d} are not in {actuals.name}"
        raise usage_error(problem, fix=f"choose --start and --days between {first:%Y-%m-%d} and {last:%Y-%m-%d}")
    dice = random.Random(study.seed)  # noqa: S311  (a fleet is drawn, nothing secret)
    open_ended = regions_for(names)
    try:
        if fleet is not None:
            arrivals = from_trace(fleet, open_ended, begin, timedelta(days=days), jobs, dice, pausable=pausable)
        else:
            arrivals = drawn(open_ended, begin, timedelta(days=days), jobs, dice, pausable=pausable)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zlib.error) as e:
        fix = "give a CSV with the columns submit_s, duration_s and gpus"
        raise usage_error(f"--fleet: {getattr(e, 'strerror', None) or e}", fix=fix) from e
    source = fleet.name if fleet is not None else f"drawn fleet, seed {study.seed}"
    title = f"{jobs} jobs over {days} days in {', '.join(names)} ({source}, utilisation {util:g})"
    _study(study, title, arrivals, regions_for(names, arrivals, util), actuals, drawn_faults)


def backtest(study: Study, files: Sequence[Path], zones: Sequence[str], year: int, every: str) -> None:
    """The jobs of the files, submitted again and again over a past year."""
    from windward.cli.manifest_files import read_objects

    study.check()
    step = span(every or EVERY, "--every")
    objects = read_objects(files)
    if every and not objects.jobs and objects.crons:
        raise usage_error("--every is for GreenJobs", fix="leave --every out: a GreenCronJob is submitted at its ticks")
    if not objects.jobs and not objects.crons:
        raise usage_error("no GreenJob or GreenCronJob in the files", fix="add one, or see examples/")
    actuals = _actuals(study.trace)
    jobs, crons, regions = list(objects.jobs), list(objects.crons), [_without_bounds(r) for r in objects.regions]
    if zones:
        regions = regions_for(_zones(",".join(zones), actuals))
        jobs = [j.model_copy(update={"spec": _placed(j.spec, regions)}) for j in jobs]
        crons = [c.model_copy(update={"spec": _cron_placed(c.spec, regions)}) for c in crons]
    if not regions:
        raise usage_error("no GreenRegion in the files", fix="add one, or give --zone DE")
    _check_places(jobs, crons, regions)
    names = _zones(",".join(dict.fromkeys(r.spec.grid_zone for r in regions)), actuals)
    first, last = _bounds(actuals, names, year)
    longest = max([*(j.spec.complete_within or timedelta(0) for j in jobs), *(c.spec.window for c in crons)])
    begin, end = first + WARM_UP, last - longest - timedelta(days=3)
    try:
        arrivals = list(repeated(jobs, begin, end, step)) if jobs else []
        for cron in crons:
            arrivals += ticked(cron, ticks_of(cron, begin, max(begin, end)))
    except ValueError as e:
        raise usage_error(str(e), fix="correct the field") from e
    if not arrivals:
        raise usage_error(f"no submission fits into {year}", fix="shorten completeWithin or --every")
    arrivals.sort(key=lambda a: a.at)
    how = f"every {every or EVERY}" if jobs else "at each tick"
    what = ", ".join([*(j.metadata.name for j in jobs), *(c.metadata.name for c in crons)])
    title = f"{what}: {len(arrivals)} submissions in {year}, {how}{' and at each tick' if jobs and crons else ''}"
    _study(study, title, arrivals, regions, actuals, Faults())


def _placed(spec: S, regions: Sequence[GreenRegion]) -> S:
    """The same work in these regions, the first of them home."""
    places = {"regions": tuple(r.metadata.name for r in regions), "home": regions[0].metadata.name}
    return spec.model_copy(update={"placement": spec.placement.model_copy(update=places)})


def _cron_placed(spec: GreenCronJobSpec, regions: Sequence[GreenRegion]) -> GreenCronJobSpec:
    template = spec.job_template
    moved = template.model_copy(update={"spec": _placed(template.spec, regions)})
    return spec.model_copy(update={"job_template": moved})


def _check_places(jobs: Sequence[GreenJob], crons: Sequence[GreenCronJob], regions: Sequence[GreenRegion]) -> None:
    there = {r.metadata.name for r in regions}
    for spec in (*(j.spec for j in jobs), *(c.spec.job_template.spec for c in crons)):
        missing = [r for r in spec.placement.regions if r not in there]
        if missing:
            fix = "add it to the file, or give --zone DE"
            raise usage_error(f"there is no GreenRegion {missing[0]} in the files", fix=fix)


def _study(
    study: Study,
    title: str,
    arrivals: Sequence[Arrival],
    regions: Sequence[GreenRegion],
    actuals: TraceProvider,
    faults: Faults,
) -> None:
    chosen, foresight = study.chosen(), Foresight(study.foresight)
    if len(arrivals) * len(chosen) > _MANY:
        planning.prefer_compiled()
        gc.freeze()
        gc.set_threshold(100_000, 50, 1_000)  # what a simulated year makes lives to its end: looking through it is vain
    try:
        with _Bar(chosen, arrivals) as bar:
            result = simulate(
                title,
                arrivals,
                regions,
                actuals,
                [POLICIES[p] for p in chosen],
                foresight=foresight,
                faults=faults,
                step=span(study.step, "--step"),
                progress=bar.at,
            )
        for zone in result.zones:
            if missing := lacking(actuals.history(zone, *actuals.span(zone)), "recording", _NOT_WEIGHED):
                sys.stderr.write(f"note: {missing}\n")
    except ProviderError as e:
        raise usage_error(str(e)) from e
    if study.page is not None:
        try:
            study.page.write_text(page(result), encoding="utf-8")
        except OSError as e:
            raise on_path(f"--page {study.page} cannot be written", e) from e
        sys.stderr.write(f"page: {study.page}\n")
    print(json.dumps(result.document(), indent=2) if study.output == "json" else table(result))


_NOT_WEIGHED = "Jobs that ran then are not weighed; for forecasts the week before stands there."


def table(result: Result) -> str:
    """The result on one screen."""
    rows = [["POLICY", *(name.upper() for name in FIGURES)]]
    rows += [[o.policy, *outcome_cells(o, result.bound_g)] for o in result.outcomes]
    first = result.outcomes[0]  # baseline and bound are the same for all
    possible = 100 * (1 - result.bound_g / first.run_now_g) if first.run_now_g else 0.0
    lines = [
        result.title,
        f"foresight {result.foresight}; {result.source}; {result.start:%Y-%m-%d} to {result.end:%Y-%m-%d}"
        + (f"; faults {', '.join(f'{k}={v:g}' for k, v in result.faults.items())}" if result.faults else ""),
        "",
        "\0",
        "",
        f"run now: {figures.grams(first.run_now_g)} (each job at once, at home, unbroken, capacity ignored);"
        f" no plan can save more than {possible:.1f} % (coming hours known, capacity ignored)",
    ]
    lost = [o.policy for o in result.outcomes if not o.conserved]
    if lost:
        lines.append(f"jobs were lost under {', '.join(lost)}: this is a fault of Windward")
    lines += [_undone(o) for o in result.outcomes if o.failed + o.unfinished]
    if first.unweighed:
        lines.append(f"{first.unweighed} jobs are in no sum of grams: hours of theirs are not known")
    if result.demo:
        lines.append("DEMO TRACE 2022, not for reporting")
    cut = lines.index("\0")
    return "\n".join([text.lines(lines[:cut]), text.table(rows, right=range(1, 10)), text.lines(lines[cut + 1 :])])


def _undone(o: Outcome) -> str:
    """What became of a policy's jobs that did not finish."""
    return (
        f"{o.policy}: {o.failed} failed and {o.unfinished} unfinished jobs emitted {figures.grams(o.undone_g)}, "
        f"counted above, and saved nothing of the {figures.grams(o.undone_run_now_g)} that they were to take"
    )


def _actuals(trace: Path | None) -> TraceProvider:
    from windward.grid.trace import TraceProvider

    if trace is None:
        return TraceProvider.bundled()
    opened = Source.chosen("", trace).open(SystemClock())
    assert isinstance(opened, TraceProvider)
    return opened


def _zones(text_: str, actuals: TraceProvider) -> list[str]:
    known = actuals.zones() or ()
    names = [z.strip() for z in text_.split(",") if z.strip()] or list(known)
    for z in names:
        if z not in known:
            near = nearest(z, known)
            fix = f"did you mean {near[0]}?" if near else f"one of {', '.join(known[:12])}"
            cause = f"it holds {', '.join(known[:12])}"
            raise usage_error(f"zone {z}: not in {actuals.name}", cause=cause, fix=fix)
    return names


def _bounds(actuals: TraceProvider, zones: Sequence[str], year: int | None = None) -> tuple[datetime, datetime]:
    """First and last moment that is recorded of all zones, within `year`."""
    try:
        spans = [actuals.span(z) for z in zones]
    except (ProviderError, ValueError, OSError) as e:
        raise unreadable(e) from e
    a, b = max(s[0] for s in spans), min(s[1] for s in spans)
    year = year or a.year
    first, last = max(a, datetime(year, 1, 1, tzinfo=UTC)), min(b, datetime(year + 1, 1, 1, tzinfo=UTC))
    if last - first < WARM_UP:
        fix = f"its zones reach from {a:%Y-%m-%d} to {b:%Y-%m-%d}"
        raise usage_error(f"{actuals.name} holds too little of {year}", fix=fix)
    return first, last


def _faults(words: str, seed: int) -> Faults:
    """`late_jobs=0.05,outage_share=0.1` as `Faults`."""
    named: dict[str, Any] = {}
    for word in filter(None, words.split(",")):
        name, _, value = word.partition("=")
        field = name.strip().replace("-", "_")
        if field not in Faults.__dataclass_fields__ or field == "seed":
            known = ", ".join(f for f in Faults.__dataclass_fields__ if f != "seed")
            raise usage_error(f"--faults {name}: not known", fix=f"of {known}")
        try:
            named[field] = float(value)
        except ValueError as e:
            raise usage_error(f"--faults {word}: no number", fix=f"{name}=0.05") from e
        most = 1.0 if field in ("late_jobs", "outage_share", "wrong_durations") else 1000.0
        if not 0.0 <= named[field] <= most:
            problem = f"--faults {word}: not between 0 and {most:g}"
            raise usage_error(problem, fix=f"{name}=0.05")
    return Faults(seed=seed, **named)


def _without_bounds(region: GreenRegion) -> GreenRegion:
    """Submissions of different days must not take each other's room: they stand for one job on different days."""
    meta = region.metadata.model_copy(update={"uid": f"region-{region.metadata.name}"})
    return region.model_copy(update={"metadata": meta, "spec": region.spec.model_copy(update={"capacity": ()})})


class _Bar:
    """How far it is: a bar on a terminal, nothing elsewhere."""

    def __init__(self, policies: Sequence[str], arrivals: Sequence[Arrival]) -> None:
        self._start = min(a.at for a in arrivals)
        self._span = max(a.job.finish_by() for a in arrivals) - self._start
        self._policies = policies
        self._tasks: dict[str, Any] = {}
        self._progress: Any = None

    def __enter__(self) -> _Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(32), TextColumn("{task.fields[day]}"))
            self._progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._progress.start()
            self._tasks = {p: self._progress.add_task(p, total=1.0, day="") for p in self._policies}
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def at(self, policy: str, now: datetime) -> None:
        if self._progress is not None:
            done = (now - self._start) / self._span
            self._progress.update(self._tasks[policy], completed=done, day=f"{now:%Y-%m-%d}")
