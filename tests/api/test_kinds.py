"""The kinds of work stand in one table: fields, rules, demand and arguments agree with it."""

import json

import pytest
from lifecycle.cases import greenjob

from windward.lifecycle.work import demand_of
from windward.manifests import RunFacts
from windward.manifests.environment import environment, runtime_arguments
from windward_api import kinds, rules
from windward_api.greenjob import GreenJobSpec
from windward_api.greenregion import GreenRegion
from windward_api.kinds import KINDS

REGION = GreenRegion.model_validate({"metadata": {"name": "north"}, "spec": {"gridZone": "SE"}})
CONTAINER = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "2"}}}
EXAMPLES = {
    "template": {"spec": {"containers": [CONTAINER]}},
    "jobTemplate": {"spec": {"parallelism": 2, "template": {"spec": {"containers": [CONTAINER]}}}},
    "jobSetTemplate": {
        "spec": {
            "replicatedJobs": [
                {"name": "a", "template": {"spec": {"template": {"spec": {"containers": [CONTAINER]}}}}},
                {
                    "name": "b", "replicas": 2,
                    "template": {"spec": {"parallelism": 3, "template": {"spec": {"containers": [CONTAINER]}}}},
                },
            ]
        }
    },
    "trainJobTemplate": {
        "spec": {
            "runtimeRef": {"name": "torch"},
            "trainer": {"numNodes": 4, "resourcesPerNode": {"limits": {"nvidia.com/gpu": 8}}},
        }
    },
    "train": {"steps": 5, "threads": 3},
    "infer": {
        "model": {"path": "m.gguf"}, "prompts": ["hi"],
        "resources": {"requests": {"memory": "2Gi"}, "limits": {"cpu": "1500m", "nvidia.com/gpu": "1"}},
    },
}  # fmt: skip
DEMANDS = {
    "template": {"pods": 1.0, "cpu": 2.0},
    "jobTemplate": {"pods": 2.0, "cpu": 4.0},
    "jobSetTemplate": {"pods": 7.0, "cpu": 14.0},
    "trainJobTemplate": {"pods": 4.0, "nvidia.com/gpu": 32.0},
    "train": {"pods": 1.0, "cpu": 3.0},
    "infer": {"pods": 1.0, "cpu": 1.5, "memory": 2.0 * 2**30, "nvidia.com/gpu": 1.0},
}
each = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.field)


def example(kind):
    return greenjob(**{"template": None, kind.field: EXAMPLES[kind.field]})


@each
def test_a_kind_is_an_optional_field_of_the_spec(kind):
    assert GreenJobSpec.model_fields[kind.attribute].default is None
    assert GreenJobSpec.model_fields[kind.attribute].alias == kind.field
    spec = example(kind).spec
    assert spec.work_kind is kind and spec.work == getattr(spec, kind.attribute)


@each
def test_its_rules_name_its_field_in_cel(kind):
    (one_work,) = {r.cel for r in rules.GREENJOB if r.message == kinds.ONE_WORK}
    assert f"has(self.{kind.field})" in one_work and kind.field in kinds.ONE_WORK
    refusals = {s for s in (kind.cap_refused, kind.levels_refused, kind.levels_capped, kind.uri_refused) if s}
    of_kind = {r.message for r in rules.GREENJOB if r.cel.startswith(f"!has(self.{kind.field}) ||")}
    assert of_kind == refusals
    below = {(r.path, r.message) for r in rules.GREENJOB if r.path.startswith(f"spec.{kind.field}")}
    assert below == {(f"spec.{kind.field}{p.part}", p.sentence) for p in kind.parts}


@each
def test_what_it_holds_and_what_its_run_is_told_follow_from_it(kind):
    job = example(kind)
    assert demand_of(job.spec) == DEMANDS[kind.field]
    arguments = runtime_arguments(job)
    assert (arguments is None) is (kind.verb == "")
    if arguments is not None:
        known = {k: v for k, v in EXAMPLES[kind.field].items() if k != "resources"}  # those are the pod's
        assert arguments[:2] == [kind.verb, "--spec"]
        assert known.items() <= json.loads(arguments[2]).items() and "resources" not in json.loads(arguments[2])
    told = environment(RunFacts(job, 1, REGION, intensity_g_per_kwh=100.0), None)
    assert ("WINDWARD_INTENSITY_G_PER_KWH" in told) is kind.hears_intensity


def test_the_order_of_kinds_is_that_of_the_sentence():
    assert kinds.ONE_WORK == (
        "spec: set exactly one of template, jobTemplate, jobSetTemplate, trainJobTemplate, train, infer: "
        "say what to run"
    )
