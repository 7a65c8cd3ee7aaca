"""The part of a pod template that Windward reads or completes, typed; the rest is the API server's to judge.

A template is kept as its author wrote it. What is checked here is what the control plane relies on afterwards: shapes
of lists and maps, text that must be text, and quantities. Field names and rules are those of `core/v1 PodTemplateSpec`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError
from pydantic.alias_generators import to_camel

from windward_api.quantity import parse_quantity

MOST_CONTAINERS = 64
MOST_ITEMS = 1024

PodQuantity = Annotated[Decimal, BeforeValidator(parse_quantity)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=253)]


class TemplatePart(BaseModel):
    """Base of what is read of a template; what is not named here is kept."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True)


class EnvVar(TemplatePart):
    """One variable: text, or a source that the kubelet reads."""

    name: Annotated[StrictStr, Field(min_length=1, max_length=1024)]
    value: StrictStr | None = None
    value_from: dict[str, Any] | None = None


class Resources(TemplatePart):
    """What a container requests and is limited to, per resource."""

    requests: dict[StrictStr, PodQuantity] | None = None
    limits: dict[StrictStr, PodQuantity] | None = None

    def requested(self) -> dict[str, float]:
        """Requests; a resource that has only a limit requests that much, as the API server defaults it."""
        return {k: float(v) for k, v in {**(self.limits or {}), **(self.requests or {})}.items()}


class Container(TemplatePart):
    """One container."""

    name: Name
    image: StrictStr | None = None
    command: Annotated[tuple[StrictStr, ...] | None, Field(max_length=MOST_ITEMS)] = None
    args: Annotated[tuple[StrictStr, ...] | None, Field(max_length=MOST_ITEMS)] = None
    working_dir: StrictStr | None = None
    env: Annotated[tuple[EnvVar, ...] | None, Field(max_length=MOST_ITEMS)] = None
    volume_mounts: Annotated[tuple[dict[str, Any], ...] | None, Field(max_length=MOST_ITEMS)] = None
    resources: Resources | None = None
    restart_policy: StrictStr | None = None

    @property
    def sidecar(self) -> bool:
        """Whether an init container goes on beside the others."""
        return self.restart_policy == "Always"


class PodMetadata(TemplatePart):
    """Labels and annotations of the pods."""

    labels: dict[StrictStr, StrictStr] | None = None
    annotations: dict[StrictStr, StrictStr] | None = None


class PodSpec(TemplatePart):
    """What the pods are."""

    containers: Annotated[tuple[Container, ...], Field(min_length=1, max_length=MOST_CONTAINERS)]
    init_containers: Annotated[tuple[Container, ...] | None, Field(max_length=MOST_CONTAINERS)] = None
    node_selector: dict[StrictStr, StrictStr] | None = None
    volumes: Annotated[tuple[dict[str, Any], ...] | None, Field(max_length=MOST_ITEMS)] = None
    overhead: dict[StrictStr, PodQuantity] | None = None
    resources: Resources | None = None  # of the pod as a whole; wins over its containers'
    termination_grace_period_seconds: Annotated[StrictInt, Field(ge=0, le=604_800)] | None = None
    automount_service_account_token: StrictBool | None = None

    def requests(self) -> dict[str, float]:
        """What the scheduler reserves: the larger of what runs together and of each step of the start, and overhead.

        Sidecars count in both. Source: Kubernetes, "Resource sharing within containers" (KEP-753) and pod-level
        resources (KEP-2837).
        """
        together: dict[str, float] = {}
        starting: dict[str, float] = {}
        for container in self.init_containers or ():
            wants = _of(container)
            if container.sidecar:
                _add(together, wants)
                wants = {}
            _raise_to(starting, {k: together.get(k, 0.0) + wants.get(k, 0.0) for k in {*together, *wants}})
        for container in self.containers:
            _add(together, _of(container))
        _raise_to(together, starting)
        together |= self.resources.requested() if self.resources is not None else {}
        _add(together, {k: float(v) for k, v in (self.overhead or {}).items()})
        return together


class PodTemplate(TemplatePart):
    """A pod template."""

    metadata: PodMetadata | None = None
    spec: PodSpec


def _of(container: Container) -> dict[str, float]:
    return container.resources.requested() if container.resources is not None else {}


def _add(total: dict[str, float], more: dict[str, float]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0.0) + amount


def _raise_to(total: dict[str, float], least: dict[str, float]) -> None:
    for name, amount in least.items():
        total[name] = max(total.get(name, 0.0), amount)


def checked_template(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the template as it came when Windward can rely on its shape.

    Raises:
        ValueError: it cannot; one sentence for each fault, with the field and what to write there.
    """
    try:
        PodTemplate.model_validate(body)
    except ValidationError as e:
        raise ValueError("; ".join(template_sentences(e, "template"))) from None
    return body


def template_sentences(error: ValidationError, field: str) -> list[str]:
    """Returns what is wrong with a template that stands at `field`: the path, and what to write there."""
    return [_sentence(fault, field) for fault in _innermost(error)[:8]]


def _innermost(error: ValidationError) -> list[Any]:
    """Faults without those that only follow from a fault further in: a list whose item is bad counts as too short."""
    faults = error.errors(include_url=False)
    paths = [f["loc"] for f in faults]
    return [f for f in faults if not any(len(p) > len(f["loc"]) and p[: len(f["loc"])] == f["loc"] for p in paths)]


_SHOULD_BE = {
    "string_type": "must be text: put it in quotes",
    "dict_type": "must be a map, such as {key: value}",
    "model_type": "must be a map, such as {key: value}",
    "model_attributes_type": "must be a map, such as {key: value}",
    "tuple_type": "must be a list: begin each item with a dash",
    "missing": "is required",
    "too_short": "needs at least one item",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
}


def _sentence(fault: Any, field: str) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in fault["loc"] if p != "[key]")
    message = _SHOULD_BE.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    return f"{field}{path}: {message}"
