"""What goes on while jobs wait and run: on stderr; one line that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from windward.cli import text
from windward.domain.observed import CreateRun, Finish, Observed, PauseRun
from windward.domain.plan import JobPlan
from windward.service.conductor import Cycle


class Board:
    """Tells each transition once, and shows how far each job is."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
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
        """Take in one turn of the conductor."""
        for o in cycle.snapshot.jobs:
            plan = cycle.plan.jobs.get(o.key)
            for line in self._news(o, plan, cycle):
                self._say(f"{cycle.at:%a %H:%MZ}  {o.job.metadata.name}: {line}")
            self._bar(o, plan, cycle)
        for key, message in cycle.errors.items():
            self._once(f"{key} error", f"{cycle.at:%a %H:%MZ}  {key}: {message}")

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _news(self, o: Observed, plan: JobPlan | None, cycle: Cycle) -> list[str]:
        out = []
        if plan is not None and not o.runs and self._said.get(o.key) != _outline(plan):
            self._said[o.key] = _outline(plan)
            out.append(f"{plan.reason}: {plan.explanation}")
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
        return f" at {value:.0f} g/kWh" if value is not None else ""

    def _bar(self, o: Observed, plan: JobPlan | None, cycle: Cycle) -> None:
        if self._progress is None:
            return
        if o.key not in self._tasks:
            self._tasks[o.key] = self._progress.add_task(o.job.metadata.name, total=100, state="", when="")
        done = max([r.progress or 0.0 for r in o.runs] or [0.0])
        state = o.live[-1].phase.lower() if o.live else _next(plan, cycle)
        when = f"{cycle.at:%a %d %b %H:%MZ}"
        self._progress.update(self._tasks[o.key], completed=100 * done, state=state, when=when)

    def _once(self, key: str, line: str) -> None:
        if self._said.get(key) != line.split("  ", 1)[-1]:
            self._said[key] = line.split("  ", 1)[-1]
            self._say(line)

    def _say(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def _next(plan: JobPlan | None, cycle: Cycle) -> str:
    start = plan.next_start(cycle.at) if plan is not None else None
    return f"waits, starts {text.until(start, cycle.at)}" if start is not None else ""


def _outline(plan: JobPlan) -> str:
    """What makes a plan another plan to a reader."""
    return f"{plan.reason} " + " ".join(f"{w.region}{w.start:%d%H%M}" for w in plan.windows[:1])
