"""What all our objects share: metadata and conditions, after the Kubernetes API conventions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from windward_api.scalars import Instant

API_VERSION: Literal["windward.dev/v1alpha1"] = "windward.dev/v1alpha1"


class ObjectMeta(BaseModel):
    """The part of an object's metadata that we read; the rest is kept as it came."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True, defer_build=True
    )

    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: str = "default"
    uid: str = ""
    resource_version: str = ""
    generation: int = 1
    creation_timestamp: Instant | None = None
    deletion_timestamp: Instant | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[dict[str, Any], ...] = ()


class Status(BaseModel):
    """Base of what we write into `/status`. Unknown fields of another version are kept."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True, defer_build=True
    )


class Condition(Status):
    """One observation about an object: `type` is `status` because of `reason`."""

    type: Annotated[str, Field(max_length=64, description="What it speaks of.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="True, False or Unknown.")]
    reason: Annotated[str, Field(max_length=64, description="Why, in one word of a closed list.")]
    message: Annotated[str, Field(max_length=1024, description="Why, in a sentence with what to do.")] = ""
    last_transition_time: Annotated[Instant | None, Field(description="When the status last changed.")] = None
    observed_generation: Annotated[int | None, Field(description="Generation of the spec that it speaks of.")] = None


def transition(
    old: tuple[Condition, ...], new: tuple[Condition, ...], now: datetime, generation: int | None = None
) -> tuple[Condition, ...]:
    """`new`, keeping the transition time of each condition whose status did not change.

    Args:
        generation: of the object that the conditions were observed on; None: as they say.
    """
    before = {c.type: c for c in old}
    return tuple(_next(before.get(c.type), c, now, generation) for c in new)


def _next(was: Condition | None, c: Condition, now: datetime, generation: int | None) -> Condition:
    latest = generation if generation is not None else c.observed_generation
    kept = was.last_transition_time if was is not None and was.status == c.status else None
    if was is not None and kept and (was.reason, was.message, was.observed_generation) == (c.reason, c.message, latest):
        return was
    return c.model_copy(update={"last_transition_time": kept or now, "observed_generation": latest})
