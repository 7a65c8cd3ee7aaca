"""The generated CRDs: structural, after the API conventions, and saying what the models say."""

from datetime import timedelta
from decimal import Decimal
from enum import Enum

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from windward_api import rules
from windward_api.crd import render
from windward_api.greencronjob import GreenCronJob
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion

MODELS = {"GreenJob": GreenJob, "GreenCronJob": GreenCronJob, "GreenRegion": GreenRegion}
CRDS = {d["spec"]["names"]["kind"]: d for d in (yaml.safe_load(t) for t in render().values())}


def schema(kind):
    return CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(node, path=""):
    """(path, node) of every schema below, itself first."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for word, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(node.get(word), dict):
            yield from nodes(node[word], path + mark)


def words(value):
    """Every key and value of the document."""
    if isinstance(value, dict):
        for k, v in value.items():
            yield k
            yield from words(v)
    elif isinstance(value, list):
        for v in value:
            yield from words(v)
    else:
        yield value


SPEC = [(k, p, n) for k in CRDS for p, n in nodes(schema(k)["properties"]["spec"], "spec")]
ALL = [(k, p, n) for k in CRDS for p, n in nodes(schema(k))]


@pytest.mark.parametrize("kind", CRDS)
def test_no_reference_no_null_no_float(kind):
    said = list(words(schema(kind)))
    assert None not in said
    assert not {"$ref", "anyOf", "oneOf", "allOf", "nullable", "$defs", "title", "const"} & {
        w for w in said if isinstance(w, str)
    }
    assert not any(isinstance(w, float) for w in said)


def test_every_node_has_a_type_and_none_is_a_number():
    for kind, path, node in ALL:
        assert node["type"] in ("object", "array", "string", "integer", "boolean"), (kind, path)


def test_every_list_says_how_it_merges():
    for kind, path, node in ALL:
        if node["type"] == "array":
            assert node["x-kubernetes-list-type"] in ("atomic", "set", "map"), (kind, path)
            keys = node.get("x-kubernetes-list-map-keys", [])
            assert bool(keys) is (node["x-kubernetes-list-type"] == "map")
            assert set(keys) <= set(node["items"].get("required", [])), "a map key must be required or have a default"


def test_every_object_is_closed_or_says_that_it_is_open():
    for kind, path, node in ALL:
        if node["type"] == "object":
            ways = [
                "properties" in node,
                "additionalProperties" in node,
                bool(node.get("x-kubernetes-preserve-unknown-fields")),
            ]
            assert sum(ways) == 1, (kind, path)


def test_every_field_of_a_spec_is_explained():
    silent = [f"{k} {p}" for k, p, n in SPEC if "." in p and not p.endswith(("[]", "{}")) and not n.get("description")]
    # Labels and annotations carry no description beyond their names; nothing else may hide behind that.
    assert [s for s in silent if not s.endswith((".labels", ".annotations"))] == []


def test_everything_that_a_user_sizes_is_bounded():
    """CEL has a cost: a string or list without a bound makes the API server refuse the CRD."""
    open_ended = [
        f"{k} {p}" for k, p, n in SPEC
        if (n["type"] == "string" and "maxLength" not in n and "enum" not in n and not p.endswith("{}"))
        or (n["type"] == "array" and "maxItems" not in n)
    ]  # fmt: skip
    assert open_ended == []


def pairs(model, node, path="spec"):
    """(path, field, schema) of every model field."""
    for name, field in model.model_fields.items():
        child = node["properties"][field.alias or name]
        yield f"{path}.{field.alias or name}", field, child
        inner = [a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(a, type)]
        for sub in inner:
            if issubclass(sub, BaseModel):
                below = child["items"] if child["type"] == "array" else child
                yield from pairs(sub, below, f"{path}.{field.alias or name}")


def plain(value):
    """A default as JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True, mode="json", exclude_none=True)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("kind", CRDS)
def test_defaults_and_requirements_are_the_models(kind):
    spec = MODELS[kind].model_fields["spec"].annotation
    for path, field, node in pairs(spec, schema(kind)["properties"]["spec"]):
        if field.default is PydanticUndefined or field.default is None:
            assert "default" not in node, path
        else:
            assert not isinstance(field.default, timedelta), path
            assert node["default"] == plain(field.default), path
    for path, node in nodes(schema(kind)["properties"]["spec"]):
        for name in node.get("required", ()):
            assert "default" not in node["properties"][name], path


def test_a_status_has_no_default_and_requires_nothing():
    for kind in CRDS:
        for path, node in nodes(schema(kind)["properties"]["status"]):
            assert not {"default", "required"} & set(node), (kind, path)


@pytest.mark.parametrize(
    ("kind", "declared"),
    [("GreenJob", rules.GREENJOB), ("GreenCronJob", rules.GREENCRONJOB), ("GreenRegion", rules.GREENREGION)],
)
def test_each_rule_stands_where_it_says(kind, declared):
    found = [
        (path.removeprefix("."), v["rule"], v["message"], v.get("fieldPath", ""))
        for path, node in nodes(schema(kind))
        for v in node.get("x-kubernetes-validations", ())
    ]
    assert sorted(found) == sorted((r.path, r.cel, r.message, r.field_path) for r in declared)
    for path, _, _, field in found:
        node = schema(kind)
        for part in filter(None, f"{path}{field}".split(".")):
            node = node["properties"][part]  # the fieldPath leads to a field that is there


@pytest.mark.parametrize("kind", CRDS)
def test_names_scope_and_subresource(kind):
    spec = CRDS[kind]["spec"]
    assert spec["scope"] == ("Cluster" if kind == "GreenRegion" else "Namespaced")
    assert CRDS[kind]["metadata"]["name"] == f"{spec['names']['plural']}.windward.dev"
    version = spec["versions"][0]
    assert version["subresources"] == {"status": {}} and version["storage"] and version["served"]
    for column in version["additionalPrinterColumns"]:
        if column["jsonPath"].startswith(".status.") and "[" not in column["jsonPath"]:
            node = schema(kind)
            for part in column["jsonPath"].strip(".").split("."):
                node = node["properties"][part]
