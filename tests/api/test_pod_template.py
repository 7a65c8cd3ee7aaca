"""Pod templates whose shape nobody could rely on are refused at the edge, with the field and the fix."""

import pytest
from lifecycle.cases import greenjob
from pydantic import ValidationError

from windward.lifecycle.work import demand_of, most_power_w
from windward_api.greenjob import GreenJob
from windward_api.pod_template import PodTemplate, checked_template
from windward_api.sentences import sentences

MAIN = {"name": "m", "image": "x", "command": ["true"]}


def pod(**spec):
    return {"spec": {"containers": [MAIN], **spec}}


def main(**more):
    return pod(containers=[MAIN | more])


MAP, LIST, TEXT = "must be a map", "must be a list", "must be text: put it in quotes"
REFUSED = [
    ({}, "template.spec: is required"),
    ({"spec": None}, f"template.spec: {MAP}"),
    ({"spec": []}, f"template.spec: {MAP}"),
    ({"spec": {}}, "template.spec.containers: is required"),
    (pod(containers=[]), "template.spec.containers: needs at least one item"),
    (pod(containers={"name": "m"}), f"template.spec.containers: {LIST}"),
    (pod(containers=[None]), f"template.spec.containers[0]: {MAP}"),
    (pod(containers=["m"]), f"template.spec.containers[0]: {MAP}"),
    (pod(containers=[{"image": "x"}]), "template.spec.containers[0].name: is required"),
    (main(command="true"), f"template.spec.containers[0].command: {LIST}"),
    (main(command=[1]), f"template.spec.containers[0].command[0]: {TEXT}"),
    (main(args=[True]), f"template.spec.containers[0].args[0]: {TEXT}"),
    (main(env={"A": "b"}), f"template.spec.containers[0].env: {LIST}"),
    (main(env=[None]), f"template.spec.containers[0].env[0]: {MAP}"),
    (main(env=[{"value": "b"}]), "template.spec.containers[0].env[0].name: is required"),
    (main(env=[{"name": "A", "value": 1}]), f"template.spec.containers[0].env[0].value: {TEXT}"),
    (main(resources=["x"]), f"template.spec.containers[0].resources: {MAP}"),
    (main(resources={"limits": "2"}), f"template.spec.containers[0].resources.limits: {MAP}"),
    (main(resources={"requests": {"cpu": "nan"}}), "template.spec.containers[0].resources.requests.cpu: 'nan' is not"),
    (main(resources={"requests": {"cpu": "1e400"}}), "resources.requests.cpu: '1e400' is more than Kubernetes counts"),
    (main(resources={"requests": {"cpu": "-1000000"}}), "resources.requests.cpu: '-1000000' is negative"),
    (main(resources={"limits": {"cpu": None}}), "template.spec.containers[0].resources.limits.cpu: None is not"),
    (main(volumeMounts={"a": 1}), f"template.spec.containers[0].volumeMounts: {LIST}"),
    (pod(nodeSelector="x"), f"template.spec.nodeSelector: {MAP}"),
    (pod(nodeSelector={"a": 1}), f"template.spec.nodeSelector.a: {TEXT}"),
    (pod(volumes={"a": 1}), f"template.spec.volumes: {LIST}"),
    (pod(initContainers=[MAIN | {"env": 1}]), f"template.spec.initContainers[0].env: {LIST}"),
    (pod(overhead={"cpu": "lots"}), "template.spec.overhead.cpu: 'lots' is not"),
    (pod(terminationGracePeriodSeconds="30"), "template.spec.terminationGracePeriodSeconds: must be a whole number"),
    (pod(automountServiceAccountToken="no"), "template.spec.automountServiceAccountToken: must be true or false"),
    ({"metadata": ["x"], "spec": {"containers": [MAIN]}}, f"template.metadata: {MAP}"),
    ({"metadata": {"labels": {"a": 1}}, "spec": {"containers": [MAIN]}}, f"template.metadata.labels.a: {TEXT}"),
]


@pytest.mark.parametrize(("template", "sentence"), REFUSED, ids=[s[:60] for _, s in REFUSED])
def test_a_shape_that_cannot_be_relied_on_is_refused(template, sentence):
    with pytest.raises(ValueError, match="template") as caught:
        checked_template(template)
    assert sentence in str(caught.value)
    with pytest.raises(ValidationError) as refused:
        greenjob(template=template)
    assert any(s.startswith("spec.template") for s in sentences(refused.value))


def test_a_template_is_kept_as_it_was_written():
    template = {**main(resources={"limits": {"nvidia.com/gpu": 2}}, securityContext={"any": [1]}), "x": {"y": None}}
    assert greenjob(template=template).spec.template == template
    assert GreenJob.model_validate(greenjob(template=template).model_dump(by_alias=True)).spec.template == template


SIDECAR = {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}}
INIT = {"name": "i", "resources": {"requests": {"cpu": "5", "memory": "1Gi"}}}


@pytest.mark.parametrize(
    ("spec", "demand"),
    [
        ({}, {}),
        ({"containers": [MAIN | {"resources": {"limits": {"cpu": "4"}, "requests": {"cpu": "1"}}}]}, {"cpu": 1}),
        (
            {"containers": [MAIN | {"resources": {"limits": {"cpu": "1P", "memory": "2E"}}}]},
            {"cpu": 1e15, "memory": 2e18},
        ),
        ({"containers": [MAIN | {"resources": {"requests": {"cpu": "500u"}}}] * 2}, {"cpu": 0.001}),
        ({"initContainers": [INIT]}, {"cpu": 5, "memory": 2**30}),
        ({"initContainers": [INIT, SIDECAR]}, {"cpu": 5, "memory": 2**30}),  # the sidecar begins after the step
        ({"initContainers": [SIDECAR, INIT]}, {"cpu": 7, "memory": 2**30}),
        ({"initContainers": [SIDECAR], "containers": [MAIN | {"resources": {"requests": {"cpu": "4"}}}]}, {"cpu": 6}),
        ({"overhead": {"cpu": "250m"}, "containers": [MAIN | {"resources": {"requests": {"cpu": 1}}}]}, {"cpu": 1.25}),
        (
            {"resources": {"requests": {"cpu": "3"}}, "containers": [MAIN | {"resources": {"requests": {"cpu": "1"}}}]},
            {"cpu": 3},
        ),
    ],
)  # fmt: skip
def test_requests_are_what_the_scheduler_reserves(spec, demand):
    template = pod(**spec)
    assert PodTemplate.model_validate(template).spec.requests() == pytest.approx(demand)
    assert demand_of(greenjob(template=template).spec) == pytest.approx({"pods": 1.0, **demand})


@pytest.mark.parametrize(
    ("template", "power", "most_w"),
    [
        (pod(), {"watts": 200}, 3000),
        (pod(), {"watts": 900}, 9000),
        (pod(), None, 3000),
        (main(resources={"limits": {"nvidia.com/gpu": 8}}), {"watts": 200}, 19_000),
        (main(resources={"limits": {"example.com/dongle": 10**9}}), {"watts": 200}, 259_000),
    ],
)
def test_more_than_the_hardware_can_draw(template, power, most_w):
    assert most_power_w(greenjob(template=template, power=power).spec) == most_w
