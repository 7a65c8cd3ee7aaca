"""GreenCronJob: recurring work with a window. The tick opens the window; the planner picks inside it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from windward_api.greenjob import GreenJobSpec
from windward_api.meta import API_VERSION, Condition, ObjectMeta, Status
from windward_api.scalars import Duration, Instant
from windward_api.schedule import parse_schedule
from windward_api.workload import Words


class ConcurrencyPolicy(StrEnum):
    """What a tick does while an earlier job still runs."""

    ALLOW = "Allow"
    FORBID = "Forbid"
    REPLACE = "Replace"


class JobTemplateMeta(Words):
    """Labels and annotations for the jobs that are made."""

    labels: Annotated[dict[str, str], Field(description="Labels of each GreenJob.")] = {}
    annotations: Annotated[dict[str, str], Field(description="Annotations of each GreenJob.")] = {}


class TemplateSpec(GreenJobSpec):
    """A GreenJob's spec without a finish-by time: the window's end is the finish-by time."""

    @model_validator(mode="after")
    def rules(self) -> TemplateSpec:
        if self.complete_within is not None or self.deadline is not None:
            raise ValueError(NO_FINISH)
        # Each job has a finish-by time, and where nothing else is known a profile: the name of the GreenCronJob.
        of_job = {"deadline": "2100-01-01T00:00:00Z"} | ({"profile": "its-name"} if self.profile is None else {})
        GreenJobSpec.model_validate({**self.model_dump(by_alias=True, exclude_unset=True, exclude_none=True), **of_job})
        return self


class GreenJobTemplate(Words):
    """The GreenJob that a tick creates."""

    metadata: Annotated[JobTemplateMeta, Field(description="Labels and annotations of the jobs.")] = JobTemplateMeta()
    spec: Annotated[TemplateSpec, Field(description="Spec of the jobs; its finish-by time is the window's end.")]


class GreenCronJobSpec(Words):
    """When windows open, how long they stay open, and what runs inside."""

    schedule: Annotated[
        str,
        Field(
            min_length=6,
            max_length=128,
            description="When the window opens: five fields, a descriptor such as @daily or @every 1h30m, "
            "as Kubernetes CronJobs read them.",
        ),
    ]
    time_zone: Annotated[str, Field(min_length=1, max_length=64, description="IANA time zone of the schedule.")] = "UTC"
    window: Annotated[Duration, Field(description="How long the window stays open; its end is the finish-by time.")]
    starting_deadline_seconds: Annotated[
        int | None,
        Field(
            ge=60,
            le=31_536_000,
            description="A tick missed by more than this is skipped; default: while its window can still hold the job.",
        ),
    ] = None
    concurrency_policy: Annotated[
        ConcurrencyPolicy,
        Field(description="While an earlier job still runs: Allow another, Forbid it, or Replace the earlier one."),
    ] = ConcurrencyPolicy.FORBID
    suspend: Annotated[bool, Field(description="True: no further windows are opened.")] = False
    successful_jobs_history_limit: Annotated[int, Field(ge=0, le=1000, description="Complete jobs that are kept.")] = 3
    failed_jobs_history_limit: Annotated[int, Field(ge=0, le=1000, description="Failed jobs that are kept.")] = 1
    job_template: Annotated[GreenJobTemplate, Field(description="The GreenJob that each tick creates.")]

    @model_validator(mode="after")
    def schedule_fires(self) -> GreenCronJobSpec:
        parse_schedule(self.schedule, self.time_zone)  # its refusal is the sentence
        return self

    @model_validator(mode="after")
    def duration_fits(self) -> GreenCronJobSpec:
        duration = self.job_template.spec.duration
        if duration is not None and duration > self.window:
            raise ValueError(WINDOW_FITS)
        return self


NO_FINISH = (
    "spec.jobTemplate.spec: must not set completeWithin or deadline: the end of spec.window is the finish-by time"
)
WINDOW_FITS = "spec.window: must not be shorter than spec.jobTemplate.spec.duration: open it longer"


class GreenCronJobStatus(Status):
    """What the operator last did."""

    observed_generation: Annotated[
        int | None, Field(description="Generation of the spec that this status speaks of.")
    ] = None
    last_schedule_time: Annotated[Instant | None, Field(description="The last tick for which a window was opened.")] = (
        None
    )
    next_schedule_time: Annotated[str | None, Field(description="When the next window opens.")] = None
    active: Annotated[tuple[str, ...], Field(description="Names of its GreenJobs that have not ended.")] = ()
    conditions: Annotated[
        tuple[Condition, ...], Field(description="Conditions by the Kubernetes API conventions, with closed reasons.")
    ] = ()


class GreenCronJob(Words):
    """Recurring work."""

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["windward.dev/v1alpha1"] = API_VERSION
    kind: Literal["GreenCronJob"] = "GreenCronJob"
    metadata: ObjectMeta
    spec: GreenCronJobSpec
    status: GreenCronJobStatus = GreenCronJobStatus()
