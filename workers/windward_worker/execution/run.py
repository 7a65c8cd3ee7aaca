"""One run of our own work, from its environment to its report: what `train` and `infer` share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

from windward_api.contract import EXIT_DONE, EXIT_PAUSED, Outcome, Progress, Report
from windward_worker.control.clock import now
from windward_worker.control.env import RunEnv
from windward_worker.control.errors import PauseRequested, Refused, WorkerError
from windward_worker.control.pause import PauseRequest
from windward_worker.control.report import ProgressFile, short, write_report
from windward_worker.energy import EnergyRecorder, choose_meter

log = logging.getLogger("windward.run")

EXIT_FAILED = 1
EXIT_REFUSED = 2


class Run:
    """Meters the work, keeps its progress and reports both.

    Enter it around the work; call `report_progress` often and `report` once.
    """

    def __init__(self, env: RunEnv, pause: PauseRequest, unit: str) -> None:
        self.env = env
        self.pause = pause
        choice = choose_meter(env.power_w)
        self.energy = EnergyRecorder(choice.meters, declared_w=choice.declared_w)
        self.notes: list[str] = list(choice.uncounted)
        self.checkpoint: str | None = None
        self.run_units = 0.0
        self._progress = Progress(fraction=0, unit=unit)
        self._file = ProgressFile(env.progress_file)
        log.info("energy: %s", "; ".join(choice.reasons))

    def __enter__(self) -> Run:
        self.energy.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.energy.stop()

    def note(self, sentence: str) -> None:
        """Something that the user should know: logged now, and in the report's message."""
        log.warning(sentence)
        self.notes.append(sentence)

    def report_progress(
        self, fraction: float, units_done: float, metrics: dict[str, float], *, last: bool = False
    ) -> None:
        """Keep the progress, and write it where it is due."""
        self._progress = Progress(
            fraction=min(1.0, fraction),
            units_done=units_done,
            unit=self._progress.unit,
            updated_at=now(),
            energy_j=self.energy.total_j,
            metrics=metrics,
        )
        self._file.write(self._progress, last=last)

    def joules_per_unit(self) -> float | None:
        """Of this run so far; None before the first unit."""
        return self.energy.total_j / self.run_units if self.run_units else None

    def report(self, outcome: Outcome, message: str = "") -> None:
        """Stop the meters and write the report. Raises OSError."""
        self.energy.stop()
        self.notes += self.energy.notes
        metrics = {**self._progress.metrics, **self.energy.unattributed}
        update = {"energy_j": self.energy.total_j, "updated_at": now(), "metrics": metrics}
        self._progress = self._progress.model_copy(update=update)
        self._file.write(self._progress, last=True)
        report = Report(
            outcome=outcome,
            progress=self._progress,
            run_units=self.run_units,
            checkpoint=self.checkpoint,
            energy=self.energy.series(),
            message=short("; ".join([*([message] if message else []), *self.notes])),
        )
        write_report(self.env.report_file, report)


def carry_out(run: Run, work: Callable[[Run], None]) -> int:
    """Do the work and report how it ended; returns the exit code. Errors of any kind become a Failed report."""
    with run:
        try:
            work(run)
        except PauseRequested:
            run.report(Outcome.PAUSED)
            log.info("paused at %s", run.checkpoint or "the start")
            return EXIT_PAUSED
        except Exception as error:
            expected = isinstance(error, WorkerError)
            log.error("%s", error, exc_info=not expected)
            run.report(Outcome.FAILED, str(error) if expected else f"{type(error).__name__}: {error}")
            return EXIT_REFUSED if isinstance(error, Refused) else EXIT_FAILED
        run.report(Outcome.SUCCEEDED)
    return EXIT_DONE
