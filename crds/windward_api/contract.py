"""The contract between the control plane and a running container.

Any image can honour it: read the environment below, and on SIGTERM write a checkpoint and exit with
`EXIT_PAUSED` within the grace period. What the container has to tell goes, as one `Report`, into its
termination message. Energy is measured here, in joules; grams are the control plane's to compute.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeFloat

API_GROUP = "windward.dev"

# Environment of every run. The run token fences: uid of the GreenJob + "-" + attempt number.
ENV_JOB = "WINDWARD_JOB"  # namespace/name
ENV_RUN = "WINDWARD_RUN"  # <uid>-<attempt>
ENV_CHECKPOINT_DIR = "WINDWARD_CHECKPOINT_DIR"  # private to the job, kept over its runs
ENV_STORAGE_DIR = "WINDWARD_STORAGE_DIR"  # shared by the jobs of a namespace: inputs, models, outputs
ENV_DEADLINE = "WINDWARD_DEADLINE"  # RFC 3339, UTC
ENV_REPORT_FILE = "WINDWARD_REPORT_FILE"  # where the Report goes; Kubernetes: /dev/termination-log
ENV_PROGRESS_FILE = "WINDWARD_PROGRESS_FILE"  # live Progress, replaced at most once a second
ENV_EXIT_FILE = "WINDWARD_EXIT_FILE"  # where a local supervisor leaves the exit code, for whoever looks later
ENV_POWER_WATTS = "WINDWARD_POWER_WATTS"  # declared draw (spec.power.watts), for the modelled meter
ENV_POWER_LEVEL = "WINDWARD_POWER_LEVEL"  # name of the spec.power.levels at which the run is; unset: as declared
ENV_POWER_CAP_WATTS = "WINDWARD_POWER_CAP_WATTS"  # mean draw to stay below (spec.power.capWatts)
# What answers requests chooses its batch by the intensity and says its grams: one number, g CO2e per kWh at the meter,
# PUE and on-site generation included. Receipts weigh with the actual intensities, not with this one.
ENV_INTENSITY_G_PER_KWH = "WINDWARD_INTENSITY_G_PER_KWH"  # expected over the run's window, when it is created
ENV_INTENSITY_FILE = "WINDWARD_INTENSITY_FILE"  # a file with the number, for pods that outlive it; wins over the former

EXIT_DONE = 0
EXIT_PAUSED = 75  # EX_TEMPFAIL of sysexits.h: "try again later"

REPORT_LIMIT_BYTES = 4096  # the kubelet cuts a termination message there


class Method(StrEnum):
    """How a number came to be; never mixed silently."""

    MEASURED = "measured"  # a counter or sensor of the hardware
    MODELLED = "modelled"  # utilisation x a declared power profile
    ESTIMATED = "estimated"  # declared watts x time, nobody looked


class Outcome(StrEnum):
    """How a run ended, in its own words."""

    SUCCEEDED = "Succeeded"
    PAUSED = "Paused"
    FAILED = "Failed"


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)  # a newer worker may say more


class EnergyComponent(_Message):
    """Energy of one component (`cpu`, `gpu`, `dram`, `other`), per step of the series."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,15}$")]
    method: Method
    source: Annotated[str, Field(max_length=64)]  # "nvml", "rapl", "model:cpu-time"
    joules: tuple[NonNegativeFloat, ...]


class EnergySeries(_Message):
    """Joules per step from `start`. The step is widened until the report fits its limit."""

    start: AwareDatetime
    step_s: Annotated[float, Field(gt=0)]
    components: tuple[EnergyComponent, ...]

    @property
    def total_j(self) -> float:
        return sum(sum(c.joules) for c in self.components)


class Progress(_Message):
    """Where the work stands."""

    fraction: Annotated[float, Field(ge=0, le=1)]  # of the whole job, over all its runs
    units_done: NonNegativeFloat = 0  # useful work, over all its runs
    unit: Annotated[str, Field(max_length=32)] = "unit"  # "token", "prompt", "step"
    updated_at: datetime | None = None
    energy_j: NonNegativeFloat | None = None  # of this run, so far
    metrics: dict[str, float] = {}  # "loss", "tokens_per_s"


class Report(_Message):
    """The termination message of one run: one JSON object of at most `REPORT_LIMIT_BYTES`."""

    version: Literal[1] = 1
    outcome: Outcome
    progress: Progress | None = None  # a command that says nothing of its progress has it counted by its running time
    run_units: NonNegativeFloat = 0  # useful work of this run alone
    checkpoint: Annotated[str, Field(max_length=128)] | None = None  # id of the newest complete checkpoint
    energy: EnergySeries | None = None
    message: Annotated[str, Field(max_length=512)] = ""
