"""The status of a GreenJob: what the operator observed, planned, ran and counted. It alone writes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from windward_api.meta import Condition, Status
from windward_api.scalars import DerivedInstant, Duration, Instant


class Summary(Status):
    """What the printer columns show; derived from the conditions, which are the truth."""

    state: Annotated[str, Field(description="Where it stands in one word: Waiting, Running, Complete.")] = "Pending"
    reason: Annotated[str, Field(description="Why, as the reason of the condition that decides.")] = ""
    region: Annotated[str, Field(description="The GreenRegion where it runs or will run.")] = ""
    start: Annotated[str, Field(description="When it started or is to start, for people.")] = ""
    finish_by: Annotated[str, Field(description="The finish-by time, for people.")] = ""
    energy: Annotated[str, Field(description="Energy so far, for people.")] = ""
    emissions: Annotated[str, Field(description="Emissions so far or expected, for people; ~ while provisional.")] = ""
    saved: Annotated[
        str, Field(description="Saving against running at once at home, for people; it may be negative.")
    ] = ""


class PlannedWindow(Status):
    """A stretch of planned running."""

    region: Annotated[str, Field(description="The GreenRegion.")]
    start: Annotated[DerivedInstant, Field(description="Begin of the window.")]
    end: Annotated[DerivedInstant, Field(description="End of the window, exclusive.")]
    emissions_grams: Annotated[str, Field(description="Expected emissions of the window, g CO2e.")] = ""


class DurationStatus(Status):
    """How long the work is taken to run, and where that comes from."""

    source: Annotated[
        str,
        Field(
            description="Declared: spec.duration. Learned: past successful runs of its profile. "
            "Unknown: neither is there; it runs at once."
        ),
    ] = ""
    expected: Annotated[Duration | None, Field(description="Running time of the whole job; learned: the median.")] = (
        None
    )
    p90: Annotated[Duration | None, Field(description="What nine of ten runs stay below; absent: not known.")] = None
    profile: Annotated[str, Field(description="Name under which its runs are remembered; empty: none.")] = ""
    runs: Annotated[int, Field(description="Past runs that are known of the profile, 50 at most.")] = 0
    differs: Annotated[
        str, Field(description="What past runs took, where spec.duration is off by more than half of it.")
    ] = ""


class PlanStatus(Status):
    """The plan as it stands."""

    windows: Annotated[tuple[PlannedWindow, ...], Field(description="When and where it is to run.")] = ()
    region: Annotated[str, Field(description="The GreenRegion of the first window.")] = ""
    power_level: Annotated[str, Field(description="Name of the spec.power.levels it runs at; empty: as declared.")] = ""
    reason: Annotated[str, Field(description="Why this plan: see docs/planning.md.")] = ""
    explanation: Annotated[str, Field(description="The same in a sentence.")] = ""
    latest_start: Annotated[
        DerivedInstant | None, Field(description="Last start that meets the finish-by time without a further pause.")
    ] = None
    expected_emissions_grams: Annotated[str, Field(description="Expected emissions of the whole job, g CO2e.")] = ""
    run_now_emissions_grams: Annotated[str, Field(description="What running at once at home would emit, g CO2e.")] = ""
    forecast_vintages: Annotated[
        tuple[str, ...], Field(description="The issues of the forecasts that it rests on, zone: hash.")
    ] = ()
    demo: Annotated[bool, Field(description="Whether it rests on demonstration data.")] = False


class RunStatus(Status):
    """One run: one child."""

    name: Annotated[str, Field(description="Name of the child.")]
    attempt: Annotated[int, Field(description="Number of the run.")]
    uid: Annotated[str, Field(description="uid of its pod, or of the local process.")] = ""
    region: Annotated[str, Field(description="The GreenRegion it runs in.")]
    power_level: Annotated[str, Field(description="Its power level; empty: as declared.")] = ""
    phase: Annotated[str, Field(description="Starting, Running, Stopping, Paused, Succeeded, Failed or Lost.")]
    started_at: Annotated[Instant | None, Field(description="When its container started.")] = None
    finished_at: Annotated[Instant | None, Field(description="When it ended.")] = None
    exit_code: Annotated[int | None, Field(description="Exit code of its container.")] = None
    message: Annotated[str, Field(description="What it left to say, or what keeps it from running.")] = ""


class Accounting(Status):
    """What was used and emitted, and what running at once at home would have emitted."""

    energy_joules: Annotated[str, Field(description="Energy of all runs at the meter, J.")] = ""
    emissions_grams: Annotated[str, Field(description="Their emissions with PUE, g CO2e.")] = ""
    run_now_grams: Annotated[str, Field(description="Emissions of the same useful work at once, at home, g CO2e.")] = ""
    saved_grams: Annotated[str, Field(description="The difference; it may be negative.")] = ""
    method: Annotated[
        str, Field(description="The weakest method among the intervals: measured, modelled or estimated.")
    ] = ""
    units_done: Annotated[str, Field(description="Units of work that were kept.")] = ""
    unit: Annotated[str, Field(description="What a unit is.")] = ""
    joules_per_unit: Annotated[str, Field(description="Energy of a unit, J.")] = ""
    settled: Annotated[bool, Field(description="Whether the intensities of both sides are measured and final.")] = False
    receipt: Annotated[str, Field(description="Hash of the receipt in the ledger.")] = ""
    demo: Annotated[bool, Field(description="Whether demonstration data is part of it.")] = False


class GreenJobStatus(Status):
    """What the operator observed, planned and did."""

    observed_generation: Annotated[
        int | None, Field(description="Generation of the spec that this status speaks of.")
    ] = None
    attempt: Annotated[int, Field(description="Number of the newest run; written before its child is created.")] = 0
    attempt_region: Annotated[str, Field(description="The GreenRegion for which the attempt number was taken.")] = ""
    failures: Annotated[int, Field(description="Runs that failed.")] = 0
    finished_at: Annotated[Instant | None, Field(description="When the job ended.")] = None
    progress_percent: Annotated[
        int | None, Field(description="Share of the work that is done and safe, in steps of 5.")
    ] = None
    summary: Summary = Summary()
    duration: DurationStatus = DurationStatus()
    plan: PlanStatus = PlanStatus()
    runs: Annotated[tuple[RunStatus, ...], Field(description="The last 20 runs.")] = ()
    accounting: Accounting = Accounting()
    conditions: Annotated[
        tuple[Condition, ...], Field(description="Conditions by the Kubernetes API conventions, with closed reasons.")
    ] = ()
