"""Objects drawn from the CRDs' own schemas: whatever the API server would take, and some that its CEL rules refuse."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from windward_api.scalars import parse_duration

CRDS = Path(__file__).resolve().parents[2] / "crds"
TEXT = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT | st.sampled_from(["1e400", "nan", "-1", "1Ki", "9" * 40]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "name", "image", "command", "args", "env", "resources", "requests", "limits", "cpu", "memory", "volumeMounts",
    "volumes", "initContainers", "containers", "overhead", "nodeSelector", "value", "valueFrom", "restartPolicy",
)  # fmt: skip
PODISH = st.recursive(
    JSON, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=10,
)  # fmt: skip
MAIN = {"name": "m", "image": "x", "command": ["true"]}
CONTAINER = st.builds(lambda given: MAIN | given, st.dictionaries(st.sampled_from(FIELDS), PODISH, max_size=4))
TEMPLATE = st.one_of(
    st.fixed_dictionaries({"spec": PODISH}),
    st.fixed_dictionaries({"spec": st.fixed_dictionaries({"containers": st.lists(CONTAINER, min_size=1, max_size=2)})}),
    st.builds(
        lambda given: {"spec": {"containers": [MAIN], **given}},
        st.dictionaries(st.sampled_from(FIELDS), PODISH, max_size=4),
    ),
    st.just({"spec": {"containers": [MAIN]}}),
    st.just({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [MAIN], "restartPolicy": "Never"}}),
    st.builds(
        lambda cpu: {"spec": {"containers": [MAIN | {"resources": {"requests": {"cpu": cpu}}}]}},
        st.sampled_from(["1", "100m", "1P", "2E", "500u", "100n", "0", "1e18", "1Ei"]),
    ),
)
SOME = st.integers(-1, 3)
JOB_SPEC = st.fixed_dictionaries(
    {"template": TEMPLATE}, optional={"parallelism": SOME, "completions": SOME, "suspend": st.booleans(), "x": PODISH}
)
NODES = st.fixed_dictionaries({}, optional={"numNodes": SOME, "resourcesPerNode": PODISH, "env": PODISH})
TEMPLATES = {  # fields whose schema says nothing of what is in them
    "template": TEMPLATE,
    "jobTemplate": st.builds(lambda spec: {"spec": spec}, JOB_SPEC),
    "jobSetTemplate": st.builds(
        lambda specs: {"spec": {"replicatedJobs": [{"name": "a", "template": {"spec": s}} for s in specs]}},
        st.lists(JOB_SPEC, max_size=3),
    ),
    "trainJobTemplate": st.builds(
        lambda trainer, patches: {
            "spec": {"runtimeRef": {"name": "torch"}, "trainer": trainer, "runtimePatches": patches}
        },
        NODES, st.just([]) | PODISH,
    ),
}  # fmt: skip
# Where a pattern or a format leaves almost nothing that does anything, values of which each half does something.
DURATIONS = ["1s", "1h", "90m", "5d", "9999d", "99999h", "999999m", "9999999s", "9999d99999h999999m"]
LIKELY: dict[str, list[Any]] = {
    "duration": DURATIONS,
    "deadline": [
        "1971-01-01T00:00:00Z", "2026-03-02T18:00:00Z", "2026-03-03T00:00:00+14:00", "8999-12-31T23:59:59Z",
    ],
    "region": ["north", "south", "any", "nowhere"],
    "schedule": ["* * * * *", "@hourly", "@every 90m", "0 7 * * MON-FRI", "0 0 31 2 *", "@reboot", "1-5/0 * * * *"],
    "timeZone": ["UTC", "Europe/Berlin", "Europe", "America/New_York", "../x"],
}  # fmt: skip
LIKELY_AT = {
    "duration": "duration", "completeWithin": "duration", "durationP90": "duration", "overhead": "duration",
    "window": "duration", "checkpointEvery": "duration", "deadline": "deadline", "home": "region", "regions": "region",
    "schedule": "schedule", "timeZone": "timeZone",
}  # fmt: skip


def spec_of(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """The spec of a kind, drawn from its schema; `plural` as the CRD's file is named."""
    body = yaml.safe_load((CRDS / f"windward.dev_{kind}.yaml").read_text())
    return from_schema(body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])


def legal(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec of a GreenJob less what the CEL rules forbid, so that most of what is drawn is planned."""
    spec = {"template": {"spec": {"containers": [MAIN]}}, **spec}
    if "profile" not in spec:
        spec.setdefault("duration", "1h")
    if "duration" not in spec:
        spec.pop("durationP90", None)
        spec.get("policy", {}).pop("fallback", None)
        spec.get("power", {}).pop("levels", None)
    one_of(spec, "train", "infer", "jobTemplate", "jobSetTemplate", "trainJobTemplate", "template")
    if "train" in spec:
        one_of(spec["train"].setdefault("data", {}), "corpus", "path")
    if "infer" in spec:
        one_of(spec["infer"], "input", "prompts")
        one_of(spec["infer"].setdefault("model", {}), "job", "path", "package")
    if "deadline" in spec:
        spec.pop("completeWithin", None)
    else:
        spec.setdefault("completeWithin", "6h")
    if {"completeWithin", "duration"} <= spec.keys() and parsed(spec["completeWithin"]) < parsed(spec["duration"]):
        spec["duration"] = spec["completeWithin"]
    if "durationP90" in spec and parsed(spec["durationP90"]) < parsed(spec["duration"]):
        del spec["durationP90"]
    if spec.get("interruption", {}).get("policy", "Never") == "Never":
        spec.pop("interruption", None)
    regions = spec.get("placement", {}).get("regions") or ["north"]
    spec["placement"] = {"regions": regions, "home": regions[-1]}
    power = spec.get("power", {})
    if "train" in spec or power.get("capWatts", 1 << 60) < power.get("watts", 100):
        spec.pop("power", None)
    for level in spec.get("power", {}).get("levels", ()):
        level["capWatts"] = max(level.get("capWatts", 0), level.get("watts", 0))
    return spec


def legal_cron(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec of a GreenCronJob, as `legal`."""
    job = legal({k: v for k, v in spec["jobTemplate"]["spec"].items() if k != "deadline"})
    short = parsed(spec["window"]) < parsed(job.get("duration", "1s"))
    window = "9999d" if short else spec["window"]
    del job["completeWithin"]
    return {**spec, "window": window, "jobTemplate": {**spec["jobTemplate"], "spec": job}}


def one_of(body: dict[str, Any], *names: str) -> None:
    """Leaves the first of the names that is there; gives the last a value where none is."""
    there = [name for name in names if name in body]
    if not there:
        body[names[-1]] = ["x"] if names[-1] == "prompts" else "x"
    for name in there[1:]:
        del body[name]


def parsed(duration: str) -> timedelta:
    """A duration, or none at all where it is not one that we read."""
    try:
        return parse_duration(duration)
    except ValueError:
        return timedelta(0)


def legal_region(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec of a GreenRegion, as `legal`."""
    return {k: v for k, v in spec.items() if k != "onSite"} | {"pue": "1.2", "gridZone": "SE"}


def from_schema(schema: dict[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Values that a structural schema takes.

    Raises:
        ValueError: the schema has a type that this does not know: it must not be left out in silence.
    """
    if name in TEMPLATES and schema.get("x-kubernetes-preserve-unknown-fields"):
        return TEMPLATES[name]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object":
            return _object(schema)
        case "array":
            items = from_schema(schema["items"], name)
            bounds = {"min_size": schema.get("minItems", 0), "max_size": min(4, schema.get("maxItems", 4))}
            if schema.get("x-kubernetes-list-type") == "set":
                return st.lists(items, unique_by=repr, **bounds)
            return st.lists(items, **bounds)
        case "string":
            return _string(schema, name)
        case "integer":
            by = schema.get("multipleOf", 1)
            first, last = schema.get("minimum", -(2**63)), schema.get("maximum", 2**63 - 1)
            return st.integers(-(-first // by), last // by).map(lambda n: n * by)
        case "number":
            return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False)
        case "boolean":
            return st.booleans()
    raise ValueError(f"{name}: no values are known of {schema.get('type')!r}")


def _object(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if more := schema.get("additionalProperties"):
        return st.dictionaries(TEXT, from_schema(more), max_size=3)
    properties = {key: from_schema(value, key) for key, value in schema.get("properties", {}).items()}
    if not properties:
        return st.dictionaries(TEXT, JSON, max_size=3)
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {k: v for k, v in properties.items() if k in required},
        optional={k: v for k, v in properties.items() if k not in required},
    )


def _string(schema: dict[str, Any], name: str) -> st.SearchStrategy[str]:
    likely = LIKELY.get(LIKELY_AT.get(name, ""))
    if schema.get("format") == "date-time":
        return st.sampled_from(LIKELY["deadline"]) | st.datetimes().map(lambda at: at.isoformat() + "Z")
    if pattern := schema.get("pattern"):
        least, most = schema.get("minLength", 0), schema.get("maxLength", 1 << 20)
        drawn = st.from_regex(pattern.removesuffix("$") + r"\Z").filter(lambda text: least <= len(text) <= most)
    else:
        drawn = st.text(min_size=schema.get("minLength", 0), max_size=min(40, schema.get("maxLength", 40)))
    return st.sampled_from(likely) | drawn if likely else drawn
