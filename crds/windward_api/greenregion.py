"""GreenRegion: a place where work may run, and the grid that feeds it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from windward_api.meta import API_VERSION, Condition, ObjectMeta, Status
from windward_api.scalars import Instant, Quantity
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
    capacity: Annotated[
        tuple[Capacity, ...],
        Field(
            max_length=16,
            description="What runs may hold here at a time; absent: no bound.",
            json_schema_extra={"listMapKey": "resource"},
        ),
    ] = ()

    @model_validator(mode="after")
    def pue_is_plausible(self) -> GreenRegionSpec:
        if not 1 <= self.pue <= 3:
            raise ValueError(PUE_PLAUSIBLE)
        return self


# The CRD's CEL rule says the same.
PUE_PLAUSIBLE = 'spec.pue: must lie between "1" and "3": state the site\'s power usage effectiveness'


class GreenRegionStatus(Status):
    """What is known of the region now."""

    observed_generation: int | None = None
    zone: str | None = None
    intensity: Annotated[str | None, Field(description="Intensity now, g/kWh.")] = None
    intensity_at: Instant | None = None
    source: Annotated[str | None, Field(description="Source and kind of the figure.")] = None
    forecast_age_seconds: int | None = None
    running: Annotated[int | None, Field(description="Runs of GreenJobs in the region.")] = None
    conditions: tuple[Condition, ...] = ()


class GreenRegion(Words):
    """A region: cluster-scoped."""

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["windward.dev/v1alpha1"] = API_VERSION
    kind: Literal["GreenRegion"] = "GreenRegion"
    metadata: ObjectMeta
    spec: GreenRegionSpec
    status: GreenRegionStatus = GreenRegionStatus()
