"""The contract between the control plane and a running container.

Any image can honour it: read the environment below, and on SIGTERM write a checkpoint and exit with
`EXIT_PAUSED` within the grace period. What the container has to tell goes, as one `Report`, into its
termination message. Energy is measured here, in joules; grams are the control plane's to compute.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

# Environment of every run. The run token fences: uid of the GreenJob + "-" + attempt number.
ENV_JOB = "WINDWARD_JOB"  # namespace/name
ENV_RUN = "WINDWARD_RUN"  # <uid>-<attempt>
ENV_CHECKPOINT_DIR = "WINDWARD_CHECKPOINT_DIR"  # private to the job, kept over its runs
ENV_STORAGE_DIR = "WINDWARD_STORAGE_DIR"  # shared by the jobs of a namespace: inputs, models, outputs
# Where spec.storage names an object store, these instead of the two folders.
ENV_CHECKPOINT_URI = "WINDWARD_CHECKPOINT_URI"  # private to the job, kept over its runs
ENV_STORAGE_URI = "WINDWARD_STORAGE_URI"  # shared by the jobs that name it: inputs, models, outputs
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


_BREAKS = re.compile(r"[\t\n\v\f\r]+ *")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+")


def printable(text: str) -> str:
    """Returns the text on one line, with each run of other control, format and surrogate characters as one U+FFFD: what
    a container says reaches terminals, databases and pages."""
    return _UNPRINTABLE.sub("\ufffd", _BREAKS.sub(" ", text))


def _measurable(value: float) -> float:
    if 0 < value < LEAST:
        raise ValueError(f"{value!r} is too small to be counted: 0, or at least {LEAST}")
    return value


def _finite_only(value: Any) -> Any:
    """Metrics without those that are no number: a loss that became NaN costs its report nothing else."""
    if not isinstance(value, Mapping):
        return value
    finite = {str(k): v for k, v in value.items() if not (isinstance(v, float) and not math.isfinite(v))}
    return dict(list(finite.items())[:MOST_METRICS])


def _in_calendar(moment: datetime) -> datetime:
    if not 1970 < moment.year < 9000:
        raise ValueError(f"{moment.isoformat()} is no time of a run")
    return moment


LEAST, MOST = 1e-9, 1e18  # bounds of what a run may count: within them sums and ratios stay finite
MOST_STEPS = 4096
MOST_METRICS = 64

Text = Annotated[str, BeforeValidator(lambda v: printable(v) if isinstance(v, str) else v)]
Amount = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False), AfterValidator(_measurable)]
Joules = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)  # a newer worker may say more


class EnergyComponent(_Message):
    """Energy of one component (`cpu`, `gpu`, `dram`, `other`), per step of the series."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,15}$")]
    method: Method
    source: Annotated[Text, Field(max_length=64)]  # "nvml", "rapl", "model:cpu-time"
    joules: Annotated[tuple[Joules, ...], Field(max_length=MOST_STEPS)]


class EnergySeries(_Message):
    """Joules per step from `start`. The step is widened until the report fits its limit."""

    start: Annotated[AwareDatetime, AfterValidator(_in_calendar)]
    step_s: Annotated[float, Field(ge=1e-3, le=31_536_000, allow_inf_nan=False)]
    components: Annotated[tuple[EnergyComponent, ...], Field(max_length=16)]

    @property
    def total_j(self) -> float:
        return sum(sum(c.joules) for c in self.components)


class Progress(_Message):
    """Where the work stands."""

    fraction: Annotated[float, Field(ge=0, le=1)]  # of the whole job, over all its runs
    units_done: Amount = 0  # useful work, over all its runs
    unit: Annotated[Text, Field(max_length=32)] = "unit"  # "token", "prompt", "step"
    updated_at: datetime | None = None
    energy_j: Joules | None = None  # of this run, so far
    metrics: Annotated[dict[Annotated[Text, Field(max_length=64)], float], BeforeValidator(_finite_only)] = {}  # "loss"


class Report(_Message):
    """The termination message of one run: one JSON object of at most `REPORT_LIMIT_BYTES`."""

    version: Literal[1] = 1
    outcome: Outcome
    progress: Progress | None = None  # a command that says nothing of its progress has it counted by its running time
    run_units: Amount = 0  # useful work of this run alone
    checkpoint: Annotated[Text, Field(max_length=128)] | None = None  # id of the newest complete checkpoint
    energy: EnergySeries | None = None
    message: Annotated[Text, Field(max_length=512)] = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a container said.

    Attributes:
        report: as far as it can be believed; None where it said nothing of this form.
        set_aside: the parts that cannot, each with the reason.
    """

    report: Report | None
    set_aside: tuple[str, ...] = ()


def heard(text: str | bytes) -> Heard:
    """Reads a termination message or report file. Never raises: a part that is out of bounds is set aside and named,
    the other parts count."""
    raw = text.encode(errors="replace") if isinstance(text, str) else text
    try:
        body = json.loads(raw[: 4 * REPORT_LIMIT_BYTES].decode(errors="replace"))
    except (ValueError, RecursionError):
        return Heard(None)
    if not isinstance(body, dict):
        return Heard(None)
    aside: list[str] = []
    while True:
        try:
            return Heard(Report.model_validate(body), tuple(aside))
        except ValidationError as e:
            faults = {str(f["loc"][0]): f["msg"] for f in e.errors(include_url=False) if f["loc"]}
        except (OverflowError, ValueError):
            return Heard(None)
        if "outcome" in faults or "version" in faults or not faults.keys() <= body.keys():
            return Heard(None)  # it is no report of ours
        for part, why in faults.items():
            aside.append(printable(f"{part}: {why.removeprefix('Value error, ')}")[:200])
            del body[part]
