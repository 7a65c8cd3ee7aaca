"""GreenRegion: a place where work may run, and the grid that feeds it."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from windward_api.meta import API_VERSION, Condition, ObjectMeta, Status
from windward_api.scalars import NAME_PATTERN, Instant, Quantity
from windward_api.workload import Words

ZONE_PATTERN = r"^[A-Za-z0-9_-]{2,64}$"


class Capacity(Words):
    """How much of one resource Windward may use here at a time."""

    resource: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            description="A resource that pods request, such as nvidia.com/gpu or cpu, or pods for their number.",
        ),
    ]
    count: Annotated[int, Field(ge=0, le=1_000_000, description="Units that Windward's runs may hold together.")]


class OnSiteHours(Words):
    """Hours of the day in which a share of the demand is met on site."""

    from_hour: Annotated[
        int, Field(ge=0, le=23, description="First hour of the day, UTC: the sun knows no summer time.")
    ]
    to_hour: Annotated[int, Field(ge=1, le=24, description="Hour of the day, UTC, at which it ends.")]
    share_percent: Annotated[int, Field(ge=1, le=100, description="Share of the site's demand that is met on site.")]


class OnSite(Words):
    """Generation on site, as declared; what it does not meet comes from the grid."""

    intensity_grams_per_kwh: Annotated[
        int,
        Field(
            ge=0, le=2000, description="Intensity of the own generation, counted as the grid's is (solar: about 46)."
        ),
    ]
    hours: Annotated[
        tuple[OnSiteHours, ...],
        Field(
            min_length=1,
            max_length=24,
            description="When it meets how much of the demand; hours that are not named: nothing.",
            json_schema_extra={"listMapKey": "fromHour"},
        ),
    ]

    @model_validator(mode="after")
    def hours_are_apart(self) -> OnSite:
        spans = sorted((h.from_hour, h.to_hour) for h in self.hours)
        if any(a >= b for a, b in spans) or any(b > c for (_, b), (c, _) in pairwise(spans)):
            raise ValueError(HOURS_APART)
        return self


class GreenRegionSpec(Words):
    """Where a region stands."""

    grid_zone: Annotated[
        str,
        Field(
            pattern=ZONE_PATTERN,
            min_length=2,
            max_length=64,
            description="Grid zone that feeds the region, in Electricity Maps' naming: DE, SE-SE3, US-CAL-CISO.",
        ),
    ]
    pue: Annotated[
        Quantity,
        Field(description='Power usage effectiveness of the site, from "1" to "3"; grams are multiplied by it.'),
    ] = Decimal("1")
    node_selector: Annotated[
        dict[str, str],
        Field(max_length=16, description="Labels of the nodes that belong to the region; runs here select them."),
    ] = {}
    queue: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=63,
            pattern=NAME_PATTERN,
            description="Kueue LocalQueue, of this name in each namespace, whose flavors are the nodes of the region: "
            "queued work is sent to the region by it, and its ClusterQueue's quota bounds the plan.",
        ),
    ] = None
    capacity: Annotated[
        tuple[Capacity, ...],
        Field(
            max_length=16,
            description="What runs may hold here at a time; absent: no bound.",
            json_schema_extra={"listMapKey": "resource"},
        ),
    ] = ()

    on_site: Annotated[
        OnSite | None,
        Field(description="Own generation, part of the effective intensity of the region; absent: all from the grid."),
    ] = None

    @model_validator(mode="after")
    def pue_is_plausible(self) -> GreenRegionSpec:
        if not 1 <= self.pue <= 3:
            raise ValueError(PUE_PLAUSIBLE)
        return self


# The CRD's CEL rules say the same.
PUE_PLAUSIBLE = 'spec.pue: must lie between "1" and "3": state the site\'s power usage effectiveness'


NAME_SHORT = (
    "metadata.name: a region's name is a label of its runs: at most 63 characters, lower case letters, digits and '-'"
)
HOURS_APART = (
    "spec.onSite.hours: each fromHour must come before its toHour, and no two spans may overlap: correct the hours"
)


class GreenRegionStatus(Status):
    """What is known of the region now."""

    observed_generation: Annotated[
        int | None, Field(description="Generation of the spec that this status speaks of.")
    ] = None
    zone: Annotated[str | None, Field(description="The grid zone that is asked for.")] = None
    intensity: Annotated[str | None, Field(description="Intensity now, g/kWh.")] = None
    intensity_at: Annotated[Instant | None, Field(description="The hour of the intensity.")] = None
    source: Annotated[str | None, Field(description="Source and kind of the figure.")] = None
    forecast_age_seconds: Annotated[int | None, Field(description="Age of the issue in use, in whole hours.")] = None
    forecast_error: Annotated[
        str | None,
        Field(description="Mean absolute error of the forecasts made a day ahead, over the last week, g/kWh."),
    ] = None
    forecast_band: Annotated[
        str | None, Field(description="Where the intensity of a day from now lies with 80 % probability, g/kWh.")
    ] = None
    running: Annotated[int | None, Field(description="Runs of GreenJobs in the region.")] = None
    conditions: Annotated[
        tuple[Condition, ...], Field(description="Conditions by the Kubernetes API conventions, with closed reasons.")
    ] = ()


class GreenRegion(Words):
    """A region: cluster-scoped."""

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["windward.dev/v1alpha1"] = API_VERSION
    kind: Literal["GreenRegion"] = "GreenRegion"
    metadata: ObjectMeta
    spec: GreenRegionSpec
    status: GreenRegionStatus = GreenRegionStatus()

    @model_validator(mode="after")
    def name_is_a_label(self) -> GreenRegion:
        if not re.fullmatch(NAME_PATTERN, self.metadata.name) or len(self.metadata.name) > 63:
            raise ValueError(NAME_SHORT)
        return self
