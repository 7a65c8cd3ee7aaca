"""What goes on while jobs wait and run, and what they print: on stderr; one line that moves on a terminal, plain lines
elsewhere."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windward.domain.observed import CreateRun, Finish, Observed, PauseRun
from windward.domain.plan import JobPlan, Reason
from windward.domain.run import run_name
from windward.manifests import TRUSTED
from windward.reports import figures
from windward.reports.shown import shown
from windward.service.controller import Cycle

MOST_BYTES = 1 << 20  # of a run's output that is passed on at one look; the log has all of it


@dataclass
class _Log:
    """Where a run writes, and how far it was passed on."""

    path: Path
    at: int = 0
    rest: bytes = b""


class Board:
    """Tells each transition once, passes on what runs print, and shows how far each job is.

    Args:
        home: the state folder, where the logs are.
        streams: whether output of runs is passed on.
    """

    def __init__(self, home: Path, *, streams: bool = True) -> None:
        self._runs, self._streams = home / "runs", streams
        self._logs: dict[str, _Log] = {}
        self._printed: dict[str, str] = {}
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}
        if sys.stderr.isatty():
            self._open()

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.fields[when]}"), TextColumn("{task.description}"), BarColumn(24))
        self._progress = Progress(
            *columns, TextColumn("{task.fields[state]}"), console=Console(stderr=True), transient=True
        )
        self._progress.start()

    def show(self, cycle: Cycle) -> None:
        """Take in one cycle of the controller."""
        for o in cycle.snapshot.jobs:
            plan = cycle.plan.jobs.get(o.key)
            self._pass_on(o, several=len(cycle.snapshot.jobs) > 1)
            for line in self._news(o, plan, cycle):
                self._say(shown(f"{cycle.at:%a %H:%MZ}  {o.job.metadata.name}: {line}"))
            for action in cycle.actions.get(o.key, ()):
                if isinstance(action, CreateRun):
                    self._log_of(run_name(o.job.metadata.name, o.uid, action.attempt), new=True)
            self._bar(o, plan, cycle)
        for key, message in cycle.errors.items():
            self._once(f"{key} error", shown(f"{cycle.at:%a %H:%MZ}  {key}: {message}"))

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _log_of(self, run: str, *, new: bool) -> _Log:
        """The log of a run, told once; of one that another command started, only what is new is passed on."""
        if run not in self._logs:
            path = self._runs / run / "log"
            begun = path.stat().st_size if not new and path.exists() else 0
            self._logs[run] = _Log(path, begun)
            self._say(f"log:    {shlex.quote(str(path))}")
        return self._logs[run]

    def _pass_on(self, o: Observed, *, several: bool) -> None:
        """What the job's newest run printed since the last look, line by line."""
        if not o.runs:
            return
        run = o.runs[-1]
        log = self._log_of(run.name, new=False)
        if not self._streams or not log.path.exists():
            return
        with log.path.open("rb") as file:
            file.seek(log.at)
            read = file.read(MOST_BYTES)
        log.at += len(read)
        *whole, log.rest = (log.rest + read).split(b"\n")
        if not run.phase.live and log.rest:
            whole, log.rest = [*whole, log.rest], b""
        own = o.job.metadata.annotations.get(TRUSTED) == "true"
        for line in whole:
            words = line.decode(errors="backslashreplace").rstrip("\r").rpartition("\r")[2]
            self._print(f"{o.job.metadata.name}: {words}" if several else words, own=own)

    def _print(self, line: str, *, own: bool) -> None:
        """A line of a run: as it is where the command is the user's own, else harmless."""
        line = line if own else shown(line)
        if self._progress is None:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        else:
            from rich.text import Text

            self._progress.console.print(Text.from_ansi(line), soft_wrap=True)

    def _news(self, o: Observed, plan: JobPlan | None, cycle: Cycle) -> list[str]:
        out = []
        if plan is not None and not o.runs and self._printed.get(o.key) != _outline(plan):
            self._printed[o.key] = _outline(plan)
            out.append(f"{plan.reason}: {plan.explanation}{_why_unknown(o, plan, cycle)}{_mark(plan.demo)}")
        if o.job.spec.suspend and not o.live and self._printed.get(f"{o.key} held") is None:
            self._printed[f"{o.key} held"] = "held"
            where = f" -n {o.job.metadata.namespace}" if o.job.metadata.namespace != "default" else ""
            out.append(f"is held; to go on: windward release {o.job.metadata.name}{where}")
        for action in cycle.actions.get(o.key, ()):
            match action:
                case CreateRun():
                    resumes = f"resumes (run {action.attempt})" if action.attempt > 1 else "starts"
                    out.append(f"{resumes} in {action.region}{self._intensity(action.region, cycle)}")
                case PauseRun():
                    out.append(f"pauses: {action.why}; writes its checkpoint")
                case Finish(succeeded=True):
                    out.append("done")
                case Finish():
                    out.append(f"failed: {action.message}")
                case _:
                    pass
        return out

    def _intensity(self, region: str, cycle: Cycle) -> str:
        zone = next((r.spec.grid_zone for r in cycle.snapshot.regions if r.metadata.name == region), "")
        forecast = cycle.forecasts.get(zone)
        value = forecast.series.at(cycle.at) if forecast is not None and forecast.series is not None else None
        mark = _mark(forecast is not None and forecast.series is not None and forecast.series.demo)
        return f" at {value:.0f} g/kWh{mark}" if value is not None else ""

    def _bar(self, o: Observed, plan: JobPlan | None, cycle: Cycle) -> None:
        if self._progress is None:
            return
        if o.key not in self._tasks:
            self._tasks[o.key] = self._progress.add_task(shown(o.job.metadata.name), total=100, state="", when="")
        done = max([r.progress or 0.0 for r in o.runs] or [0.0])
        state = o.live[-1].phase.lower() if o.live else _next(plan, cycle)
        when = f"{cycle.at:%a %d %b %H:%MZ}"
        self._progress.update(self._tasks[o.key], completed=100 * done, state=state, when=when)

    def _once(self, key: str, line: str) -> None:
        if self._printed.get(key) != line.split("  ", 1)[-1]:
            self._printed[key] = line.split("  ", 1)[-1]
            self._say(line)

    def _say(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def _next(plan: JobPlan | None, cycle: Cycle) -> str:
    start = plan.next_start(cycle.at) if plan is not None else None
    return f"waits, starts {figures.until(start, cycle.at)}" if start is not None else ""


def _why_unknown(o: Observed, plan: JobPlan, cycle: Cycle) -> str:
    """Where no forecast could be used: why not, zone by zone."""
    if plan.reason not in (Reason.FALLBACK_NO_FORECAST, Reason.AWAITING_FORECAST):
        return ""
    zones = {r.spec.grid_zone for r in cycle.snapshot.regions if r.metadata.name in o.job.spec.placement.regions}
    known = [cycle.forecasts[z] for z in sorted(zones) if z in cycle.forecasts]
    return "".join(f" {f.zone}: {f.detail}" for f in known if f.detail)


def _mark(demo: bool) -> str:
    return "  DEMO TRACE, not for reporting" if demo else ""


def _outline(plan: JobPlan) -> str:
    """What makes a plan another plan to a reader."""
    return f"{plan.reason} " + " ".join(f"{w.region}{w.start:%d%H%M}" for w in plan.windows[:1])
