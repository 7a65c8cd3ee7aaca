"""Sentences for people: why this plan, and why not another. A reason is a sum that adds up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from windward.domain.fleet import Fleet, Region, Work
from windward.domain.forecast import Forecast
from windward.domain.plan import JobPlan, Reason
from windward_api.scalars import format_duration

_LEAST_SHARE = 0.005  # of a job's grams: a smaller price of room is not mentioned


def sentence(plan: JobPlan, work: Work, now: datetime, best_share: float | None = None) -> str:
    """Why the plan is as it is, in at most a few short sentences."""
    parts = [_head(plan, work, now, best_share), *([work.duration_note] if work.duration_note else [])]
    if plan.run_now_g is not None and plan.emissions_g is not None:
        parts.append(f"Run now at {work.home}: {grams(plan.run_now_g)}; this plan: {grams(plan.emissions_g)}.")
    parts += _room(plan)
    weighed = [a for a in plan.alternatives if a.emissions_g is not None and a.windows]
    if weighed and plan.emissions_g is not None and weighed[0].emissions_g is not None:
        a = weighed[0]
        more = weighed[0].emissions_g + a.capacity_g - plan.emissions_g - plan.capacity_g
        room = f" with {grams(a.capacity_g)} for the room" if a.capacity_g >= _LEAST_SHARE * plan.emissions_g else ""
        parts.append(f"Next best {a.place} {clock(a.windows[0].start, now)}: +{grams(max(0.0, more))}{room}.")
    if plan.edge:
        parts.append("The best window touches the end of the forecast: a later issue may move it.")
    return " ".join(parts)


def _room(plan: JobPlan) -> list[str]:
    """What the room costs that others want too."""
    if plan.emissions_g is None or plan.capacity_g < _LEAST_SHARE * plan.emissions_g:
        return []
    return [f"Others want this room: it counts {grams(plan.capacity_g)} on top, not as emissions."]


def _head(plan: JobPlan, work: Work, now: datetime, best_share: float | None) -> str:
    latest = clock(plan.latest_start, now)
    start, where = (plan.windows[0].start, plan.windows[0].region) if plan.windows else (now, "")
    runs = "runs now" if start <= now else f"runs as soon as there is room, from {clock(start, now)} in {where}"
    match plan.reason:
        case Reason.CLEANER_WINDOW:
            how = f" in {len(plan.windows)} stretches" if len(plan.windows) > 1 else ""
            if work.pending and start > now and where == work.running_in:
                return f"Its pod waits for room in {where}, expected from {clock(start, now)}."
            at = f"{where} at {plan.level_name}" if plan.level_name else where
            if work.running_in is not None and start <= now:
                return f"Runs in {at}{how}."
            return f"Cleanest from {clock(start, now)} in {at}{how}; latest start {latest}."
        case Reason.RUN_NOW:
            return "Nothing cleaner comes in time: runs now."
        case Reason.NO_SLACK:
            return f"The latest safe start ({latest}) is reached: {runs}, whatever the carbon."
        case Reason.SAVING_BELOW_THRESHOLD:
            share = round(100 * (best_share or 0.0)) + 0  # no minus before a zero
            return f"The best saving, {share} %, is below minSavingPercent {100 * work.min_saving:.0f}: runs now."
        case Reason.FALLBACK_NO_FORECAST:
            return f"No usable forecast: {runs}, as policy.fallback {work.fallback} says."
        case Reason.DURATION_UNKNOWN:
            return f"Nobody knows yet how long it takes: {runs}, as policy.fallback {work.fallback} says."
        case Reason.USER_FORCED:
            return f"At the user's word: {runs}."
        case Reason.OBSERVING:
            return "Observes only: runs at once, at home."
        case Reason.DEADLINE_TOO_SOON:
            needs, by = format_duration(work.remaining), clock(work.finish_by, now)
            return f"Needs {needs} and must finish by {by}: cannot be met; {runs} to be least late."
        case Reason.NO_ALLOWED_REGION:
            names = ", ".join(work.regions)
            return f"None of the regions {names} exists: create the GreenRegion or change spec.placement.regions."
        case Reason.AWAITING_FORECAST:
            return f"No usable forecast; waits for one until {latest}, as policy.fallback {work.fallback} says."
        case Reason.CAPACITY_FULL:
            then = runs if plan.windows else "starts as soon as one has"
            return f"No allowed region has room that ends before {clock(work.finish_by, now)}: {then}."


def shortfall(work: Work, region: Region) -> str:
    """What the work asks for that the region never has; '' where it has it all."""
    for resource, units in work.demand.items():
        bound = region.capacity.get(resource)
        if bound is not None and units > bound:
            return f"it asks for {units:g} {resource}, and all there is are {bound:g}"
    return ""


def exclusion(region: str, fleet: Fleet, forecasts: Mapping[str, Forecast]) -> str:
    """Why a region that the job allows was not weighed."""
    if region not in fleet.regions:
        return f"there is no GreenRegion {region}"
    zone = fleet.regions[region].zone
    forecast = forecasts.get(zone)
    if forecast is None or forecast.series is None:
        return f"nothing is known of zone {zone}" + (f": {forecast.detail}" if forecast and forecast.detail else "")
    return f"the forecast for {zone} is {forecast.freshness}: {forecast.detail}"


def grams(value: float) -> str:
    """Three digits are all that a forecast is worth."""
    return f"{value:.0f} g" if abs(value) >= 100 else f"{value + 0.0:.3g} g"  # no minus before a zero


def clock(moment: datetime, now: datetime) -> str:
    """`05-13 11:00Z`, as the printer columns show it; with the year where it differs from now's."""
    year = "" if moment.year == now.year else f"{moment.year}-"
    return f"{year}{moment.month:02}-{moment.day:02} {moment.hour:02}:{moment.minute:02}Z"
