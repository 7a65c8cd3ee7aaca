"""The worker's side of the contract: environment, pause, progress, report. No torch."""

from windward_worker.control.clock import now, process_age_s, rfc3339
from windward_worker.control.env import RunEnv, read_env
from windward_worker.control.errors import ClaimLost, Diverged, MeterError, PauseRequested, Refused, WorkerError
from windward_worker.control.files import sync_folder, write_atomic
from windward_worker.control.pause import PauseRequest
from windward_worker.control.report import (
    ProgressFile,
    encode_report,
    read_progress,
    read_report,
    widen,
    write_report,
)

__all__ = [
    "ClaimLost",
    "Diverged",
    "MeterError",
    "PauseRequest",
    "PauseRequested",
    "ProgressFile",
    "Refused",
    "RunEnv",
    "WorkerError",
    "encode_report",
    "now",
    "process_age_s",
    "read_env",
    "read_progress",
    "read_report",
    "rfc3339",
    "sync_folder",
    "widen",
    "write_atomic",
    "write_report",
]
