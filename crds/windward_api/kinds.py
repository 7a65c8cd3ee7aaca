"""The kinds of work that a GreenJob may ask for, of which its spec has exactly one: one table.

CEL rules, the models' sentences, what a run holds of a region and the runtime's arguments follow from it. A new kind is
an entry here and the field of that name in `GreenJobSpec`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_snake

from windward_api import workload
from windward_api.group_templates import GROUP_TEMPLATES, read_template
from windward_api.pod_template import PodTemplate, Resources


@dataclass(frozen=True, slots=True)
class PartRule:
    """A CEL rule on a part of one kind's spec; the model of that part refuses the same with the same sentence.

    Attributes:
        part: where it stands below the kind's field, as in '.data'; '' for the field itself.
    """

    part: str
    cel: str
    sentence: str


@dataclass(frozen=True, slots=True)
class WorkKind:
    """One kind of work.

    Attributes:
        field: of `GreenJobSpec`.
        child: kind of the object that is created for a run.
        verb: what our own runtime is told to do; '': the work brings its own container.
        hears_intensity: its run is told the expected intensity, and chooses by it how it works.
        cap_refused: why `power.capWatts` may not be set; '': it may.
        levels_refused: why `power.levels` may not be set; '': they may.
        levels_capped: why each level needs `capWatts`; '': none does.
        uri_refused: why `storage.uri` may not be set; '': it may.
        requests: what the scheduler reserves for one run, from the value of the field; without `pods`: one pod.
        parts: rules on parts of it.
    """

    field: str
    child: str = "Job"
    verb: str = ""
    hears_intensity: bool = True
    cap_refused: str = ""
    levels_refused: str = ""
    levels_capped: str = ""
    uri_refused: str = ""
    requests: Callable[[Any], Mapping[str, float]] = lambda _: {}
    parts: tuple[PartRule, ...] = ()

    @property
    def attribute(self) -> str:
        """The name of its field in `GreenJobSpec`, as Python has it."""
        return to_snake(self.field)

    @property
    def is_group(self) -> bool:
        """Whether a run of it may have several pods."""
        return self.field in GROUP_TEMPLATES

    def demand(self, value: Any) -> Mapping[str, float]:
        """Returns what one run holds of a region: its pods, and what the scheduler reserves for all of them."""
        return {"pods": 1.0, **self.requests(value)}

    def arguments(self, value: BaseModel) -> list[str]:
        """Returns the arguments of our own runtime (`windward-worker ...`), for a kind that has a verb."""
        body = value.model_dump(by_alias=True, mode="json", exclude_none=True, exclude={"resources"})
        return [self.verb, "--spec", json.dumps(body, separators=(",", ":"), sort_keys=True)]


def _template_requests(template: Any) -> Mapping[str, float]:
    return PodTemplate.model_validate(template).spec.requests()


def _worker_requests(value: Any) -> Mapping[str, float]:
    return Resources.model_validate(workload.resources_of(value)).requested()


def _group(field: str, child: str) -> WorkKind:
    return WorkKind(field, child, requests=lambda body: read_template(field, body).spec.demand())


KINDS: tuple[WorkKind, ...] = (
    WorkKind("template", requests=_template_requests),
    _group("jobTemplate", "Job"),
    _group("jobSetTemplate", "JobSet"),
    _group("trainJobTemplate", "TrainJob"),
    WorkKind(
        "train",
        verb="train",
        requests=_worker_requests,
        hears_intensity=False,
        cap_refused="spec.power.capWatts: training does not keep a cap: remove it, or cap the accelerator itself",
        levels_refused="spec.power.levels: training runs one way: remove them",
        parts=(PartRule(".data", "has(self.corpus) != has(self.path)", workload.ONE_TEXT),),
    ),
    WorkKind(
        "infer",
        verb="infer",
        requests=_worker_requests,
        levels_capped="spec.power.levels: infer keeps to a level by its capWatts: give each one",
        uri_refused="spec.storage.uri: infer appends its answers to a file: name a volume in claimName instead",
        parts=(
            PartRule(
                ".model",
                "[has(self.job), has(self.path), has(self.package)].filter(x, x).size() == 1",
                workload.ONE_MODEL,
            ),
            PartRule("", "has(self.input) != has(self.prompts)", workload.ONE_INPUT),
        ),
    ),
)
KIND_OF_FIELD: Mapping[str, WorkKind] = {k.field: k for k in KINDS}
ONE_WORK = f"spec: set exactly one of {', '.join(KIND_OF_FIELD)}: say what to run"


def kinds_in(spec: Any) -> list[WorkKind]:
    """Returns the kinds of work that a spec asks for; exactly one where it is valid."""
    return [k for k in KINDS if getattr(spec, k.attribute) is not None]
