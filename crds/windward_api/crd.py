"""Writes the CustomResourceDefinitions from the models: `python -m windward_api [FOLDER]`.

The YAML is committed beside the package and compared in CI, so that models and cluster cannot drift apart.
Structural schemas after the Kubernetes API conventions: no $ref, no floats, lists with their type, closed enums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from windward_api import rules
from windward_api.greencronjob import GreenCronJob
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.scalars import DURATION_PATTERN, QUANTITY_PATTERN

Schema = dict[str, Any]

# How our scalars look to the API server.
_SCALARS: Mapping[str, Schema] = {
    "duration": {"type": "string", "minLength": 2, "maxLength": 32, "pattern": DURATION_PATTERN},
    "instant": {"type": "string", "format": "date-time", "maxLength": 64},
    "quantity": {"type": "string", "maxLength": 20, "pattern": QUANTITY_PATTERN},
    # The API server checks a pod template when the child is made; a copy of its schema here would pin a version.
    "podTemplate": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
_KEPT = (
    "description", "default", "enum", "minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf",
)  # fmt: skip


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of one model."""
    document = model.model_json_schema(by_alias=True, mode="serialization")
    return _convert(document, document.get("$defs", {}))


def _convert(node: Schema, defs: Mapping[str, Schema]) -> Schema:
    """One node of pydantic's JSON schema as a structural one: references inlined, null options dropped."""
    node = _resolve(node, defs)
    if "windward" in node:
        return _scalar(node)
    if "const" in node:
        return {**{k: node[k] for k in ("description",) if k in node}, "type": "string", "enum": [node["const"]]}
    out: Schema = {k: node[k] for k in _KEPT if k in node and node[k] is not None}
    if isinstance(out.get("default"), dict):
        out["default"] = _given(out["default"])
    out["type"] = node.get("type", "object")
    if out["type"] == "array":
        out["items"] = _convert(node["items"], defs)
        out.update(_list_type(node))
    elif "properties" in node:
        out["properties"] = {k: _convert(v, defs) for k, v in node["properties"].items()}
        required = sorted(k for k in node.get("required", ()) if "default" not in node["properties"][k])
        if required:
            out["required"] = required
    elif out["type"] == "object":
        extra = node.get("additionalProperties")
        if isinstance(extra, dict) and extra:
            out["additionalProperties"] = _convert(extra, defs)
        else:
            out["x-kubernetes-preserve-unknown-fields"] = True
    if out["type"] == "integer":
        out["format"] = "int64"
    return out


def _given(default: Schema) -> Schema:
    """A default object without its absent fields: null is not a value of any type of ours."""
    return {k: _given(v) if isinstance(v, dict) else v for k, v in default.items() if v is not None}


def _resolve(node: Schema, defs: Mapping[str, Schema]) -> Schema:
    """Follow $ref and drop the `or null` of optional fields; what stands beside a reference wins."""
    while True:
        if "$ref" in node:
            rest = {k: v for k, v in node.items() if k != "$ref"}
            node = {**defs[node["$ref"].rsplit("/", 1)[1]], **rest}
        elif "anyOf" in node:
            options = [o for o in node["anyOf"] if o.get("type") != "null"]
            if len(options) != 1:
                raise TypeError(f"a field of several types has no structural schema: {node}")
            rest = {k: v for k, v in node.items() if k != "anyOf"}
            node = {**options[0], **rest}
        else:
            return node


def _scalar(node: Schema) -> Schema:
    out = dict(_SCALARS[node["windward"]])
    if "description" in node:
        out["description"] = node["description"]
    if node.get("default") is not None:
        out["default"] = node["default"]
    return out


def _list_type(node: Schema) -> Schema:
    if "listMapKey" in node:
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [node["listMapKey"]]}
    return {"x-kubernetes-list-type": node.get("listType", "atomic")}


def _drop(schema: Schema, *names: str) -> Schema:
    """A copy without the named properties, which the API server owns."""
    properties = {k: v for k, v in schema["properties"].items() if k not in names}
    return {**schema, "properties": properties, "required": [r for r in schema.get("required", ()) if r not in names]}


def _without_defaults(schema: Schema) -> Schema:
    """A copy without defaults: a status is written whole by the operator and must not be filled by the server."""
    out = {k: v for k, v in schema.items() if k not in ("default", "required")}
    if "properties" in out:
        out["properties"] = {k: _without_defaults(v) for k, v in out["properties"].items()}
    if "items" in out:
        out["items"] = _without_defaults(out["items"])
    return out


def _attach(schema: Schema, rule: rules.Rule) -> None:
    node = schema
    for name in filter(None, rule.path.split(".")):
        node = node["properties"][name]
    entry = {"rule": rule.cel, "message": rule.message}
    if rule.field_path:
        entry["fieldPath"] = rule.field_path
    node.setdefault("x-kubernetes-validations", []).append(entry)


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False) -> Schema:
    return {"name": name, "type": kind, "jsonPath": path, **({"priority": 1} if wide else {})}


_AGE = _column("Age", ".metadata.creationTimestamp", "date")
_DATA = ".status.conditions[?(@.type=='ForecastFresh')].reason"
# Planned times are strings: a column of type `date` prints <invalid> for the future.
_COLUMNS = {
    "GreenJob": [
        _column("Status", ".status.summary.state"),
        _column("Why", ".status.summary.reason"),
        _column("Region", ".status.summary.region"),
        _column("Start", ".status.summary.start"),
        _column("Finish by", ".status.summary.finishBy"),
        _column("CO2e", ".status.summary.emissions"),
        _column("Saved", ".status.summary.saved"),
        _AGE,
        _column("Energy", ".status.summary.energy", wide=True),
        _column("Attempts", ".status.attempt", "integer", wide=True),
        _column("Data", _DATA, wide=True),
    ],
    "GreenCronJob": [
        _column("Schedule", ".spec.schedule"),
        _column("Timezone", ".spec.timeZone"),
        _column("Window", ".spec.window"),
        _column("Suspend", ".spec.suspend", "boolean"),
        _column("Active", ".status.active"),
        _column("Last Schedule", ".status.lastScheduleTime", "date"),
        _column("Next", ".status.nextScheduleTime"),
        _AGE,
    ],
    "GreenRegion": [
        _column("Zone", ".spec.gridZone"),
        _column("g/kWh", ".status.intensity"),
        _column("PUE", ".spec.pue"),
        _column("Running", ".status.running", "integer"),
        _column("Data", _DATA),
        _column("Source", ".status.source", wide=True),
        _AGE,
    ],
}
_KINDS: tuple[tuple[type[BaseModel], str, str, str, list[rules.Rule]], ...] = (
    (GreenJob, "greenjobs", "gj", "Namespaced", rules.GREENJOB),
    (GreenCronJob, "greencronjobs", "gcj", "Namespaced", rules.GREENCRONJOB),
    (GreenRegion, "greenregions", "gr", "Cluster", rules.GREENREGION),
)


def definition(model: type[BaseModel], plural: str, short: str, scope: str, cel: list[rules.Rule]) -> Schema:
    """The CustomResourceDefinition of one kind."""
    kind = model.__name__
    schema = _drop(structural(model), "apiVersion", "kind", "metadata")
    schema["description"] = (model.__doc__ or "").strip()
    schema["properties"]["status"] = _without_defaults(schema["properties"]["status"])
    schema["required"] = ["spec"]
    for rule in cel:
        _attach(schema, rule)
    version = {
        "name": "v1alpha1", "served": True, "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": _COLUMNS[kind],
    }  # fmt: skip
    names = {
        "kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower(),
        "shortNames": [short], "categories": ["green"],
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.windward.dev"},
        "spec": {"group": "windward.dev", "scope": scope, "names": names, "versions": [version]},
    }


def definitions() -> list[Schema]:
    """Returns the CustomResourceDefinition of every kind."""
    return [definition(*kind) for kind in _KINDS]


def render() -> dict[str, str]:
    """Returns file name -> YAML, for every kind."""
    head = "# Generated by `python -m windward_api`; edit the models, not this file.\n"
    return {
        f"windward.dev_{one['spec']['names']['plural']}.yaml": head + yaml.safe_dump(one, sort_keys=False, width=120)
        for one in definitions()
    }
