"""What the chart puts into a cluster: rights, containers, settings, CRDs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.sync_crds import COPIES, GENERATED, contents
from cluster.kube import Helm

from windward.cluster.engines import ENGINES
from windward.cluster.managed import RELEASE_RIGHTS, RIGHTS
from windward.grid.registry import all_specs
from windward.service.settings import Settings
from windward_api.kinds import KINDS

CHART = Path(__file__).resolve().parents[2] / "charts" / "windward"
VALUE_SETS = sorted(file.stem for file in (Path(__file__).parent / "values").glob("*.yaml"))

Body = dict[str, Any]
RELEASE = "windward-release"
Rules = set[tuple[str, str, str]]

# The ceiling: every (group, resource, verb) that the operator may have in a namespace. A line more needs a reason.
IN_NAMESPACES: Rules = {
    *(("windward.dev", "greenjobs", verb) for verb in ("create", "delete", "list", "watch")),
    *(("windward.dev", "greencronjobs", verb) for verb in ("list", "watch")),
    ("windward.dev", "greenjobs/status", "patch"),
    ("windward.dev", "greencronjobs/status", "patch"),
    *(("batch", "jobs", verb) for verb in ("create", "get", "list", "patch")),
    *(("", "pods", verb) for verb in ("delete", "list", "watch")),
    ("", "events", "create"),
    # Runs that are groups of pods, as Jobs above; and managed workloads: read, held and released.
    ("batch", "jobs", "watch"),
    *(("jobset.x-k8s.io", "jobsets", verb) for verb in ("create", "get", "list", "patch", "watch")),
    *(("trainer.kubeflow.org", "trainjobs", verb) for verb in ("create", "get", "list", "patch", "watch")),
    *(("kueue.x-k8s.io", "workloads", verb) for verb in ("list", "patch")),
    ("kueue.x-k8s.io", "localqueues", "list"),
    *(("", "namespaces", verb) for verb in ("get", "list")),
}
IN_ONE_NAMESPACE: Rules = IN_NAMESPACES - {("", "namespaces", "list")}
IN_THE_CLUSTER: Rules = {
    *(("windward.dev", "greenregions", verb) for verb in ("list", "watch")),
    ("windward.dev", "greenregions/status", "patch"),
    ("kueue.x-k8s.io", "clusterqueues", "list"),
}
# What the operator needs for itself, whatever runs the GreenJobs.
OBSERVES_PODS: Rules = {("", "pods", "list"), ("", "pods", "watch")}
OF_MANAGED: Rules = {(r.group, r.resource, verb) for r in RIGHTS for verb in r.verbs}
OF_RELEASE: Rules = {(r.group, r.resource, verb) for r in RELEASE_RIGHTS for verb in r.verbs}
OF_QUOTAS: Rules = {("kueue.x-k8s.io", "clusterqueues", "list")}
OF_ENGINES: Rules = {(r.group, r.resource, verb) for e in ENGINES for r in e.rights for verb in r.verbs}


def rules(role: Body) -> Rules:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def rights(objects: list[Body], account: str, namespace: str = "windward-system") -> dict[str, Rules]:
    """What the bindings give to a service account: by namespace, "" for all of the cluster."""
    roles = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): rules(one)
        for one in objects
        if one["kind"] in {"Role", "ClusterRole"}
    }
    given: dict[str, Rules] = {}
    for one in objects:
        if not one["kind"].endswith("RoleBinding"):
            continue
        if not any(s.get("name") == account and s.get("namespace") == namespace for s in one["subjects"]):
            continue
        place = one["metadata"].get("namespace")
        reference = one["roleRef"]
        role = roles[(reference["kind"], place if reference["kind"] == "Role" else None, reference["name"])]
        given[place or ""] = given.get(place or "", set()) | role
    return given


def render(helm: Helm, name: str = "default", *words: str) -> list[Body]:
    values = Path(__file__).parent / "values" / f"{name}.yaml"
    sets = [part for word in words for part in ("--set", word)]
    return [one for one in yaml.safe_load_all(helm.template(CHART, "--values", values, *sets)) if one]


def only(objects: list[Body], kind: str) -> Body:
    (one,) = [one for one in objects if one["kind"] == kind]
    return one


def container(objects: list[Body], of: str = "operator") -> Body:
    (one,) = deployment(objects, of)["spec"]["template"]["spec"]["containers"]
    return dict(one)


def deployment(objects: list[Body], of: str = "operator") -> Body:
    """The operator's, or that of the second process, `release`."""
    both = [one for one in objects if one["kind"] == "Deployment"]
    (found,) = [d for d in both if d["spec"]["template"]["spec"]["containers"][0]["name"] == of]
    return found


def environment(objects: list[Body]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(objects)["env"]}


def test_the_operator_has_exactly_these_rights(helm: Helm) -> None:
    assert rights(render(helm), "windward") == {"": IN_NAMESPACES | IN_THE_CLUSTER}


def test_a_scoped_operator_has_its_rights_in_its_namespaces_only(helm: Helm) -> None:
    assert rights(render(helm, "scoped"), "windward") == {
        "": IN_THE_CLUSTER,
        "team-a": IN_ONE_NAMESPACE,
        "team-b": IN_ONE_NAMESPACE,
    }


def test_without_managed_workloads_their_rights_and_the_second_process_are_gone(helm: Helm) -> None:
    objects = render(helm, "default", "managed.enabled=false")
    rest = IN_NAMESPACES - (OF_MANAGED - OF_ENGINES)
    assert rights(objects, "windward") == {"": rest | (IN_THE_CLUSTER - OF_QUOTAS)}
    assert rights(objects, RELEASE) == {}
    assert [o["metadata"]["name"] for o in objects if o["kind"] == "Deployment"] == ["windward"]
    assert environment(objects)["WINDWARD_MANAGED"] == "false"


def test_the_second_process_may_only_release_managed_workloads(helm: Helm) -> None:
    assert rights(render(helm), RELEASE) == {"": OF_RELEASE}
    there = OF_RELEASE - {("", "namespaces", "list")}
    assert rights(render(helm, "scoped"), RELEASE) == {"team-a": there, "team-b": there}


def test_a_hold_at_creation_that_the_server_cannot_do_is_refused_and_auto_leaves_it_out(helm: Helm) -> None:
    assert not [o for o in render(helm) if o["kind"] == "MutatingAdmissionPolicy"]
    with pytest.raises(AssertionError, match=r"managed\.holdAtCreation: this server has no MutatingAdmissionPolicy"):
        render(helm, "default", "managed.holdAtCreation=true")


def test_rights_on_workloads_are_those_that_the_engines_declare(helm: Helm) -> None:
    for name, place in (("default", ""), ("scoped", "team-a"), ("scoped", "team-b")):
        given = rights(render(helm, name), "windward")[place]
        given -= OF_QUOTAS  # of the cluster, whatever the namespaces
        workloads = {one for one in given if one[0] != "windward.dev" and one[1] not in ("events", "namespaces")}
        managed = {r for r in OF_MANAGED if r[1] != "namespaces"}
        assert workloads == OF_ENGINES | OBSERVES_PODS | managed


def test_the_operators_policy_binds_it_for_each_engine(helm: Helm) -> None:
    (policy,) = (
        o
        for o in render(helm)
        if o["kind"] == "ValidatingAdmissionPolicy" and o["metadata"]["name"].endswith("-operator")
    )
    bound = {
        (group, resource, operation)
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for operation in rule["operations"]
    }
    operations = {"create": "CREATE", "patch": "UPDATE", "update": "UPDATE", "delete": "DELETE"}
    changes = OF_ENGINES | OF_MANAGED
    assert {(g, r, operations[verb]) for g, r, verb in changes if verb in operations} <= bound


@pytest.mark.parametrize("name", VALUE_SETS)
def test_no_role_of_ours_reads_secrets_or_runs_as_another(helm: Helm, name: str) -> None:
    for role in (one for one in render(helm, name) if one["kind"] in {"Role", "ClusterRole"}):
        for group, resource, verb in rules(role):
            assert "*" not in (group, resource, verb)
            assert resource not in {"secrets", "pods/exec", "nodes", "serviceaccounts/token"}
            assert verb not in {"impersonate", "escalate", "bind"}


def test_users_of_a_namespace_may_submit(helm: Helm) -> None:
    roles = {one["metadata"]["name"]: one for one in render(helm) if one["kind"] == "ClusterRole"}
    edit, view = roles["windward-system-windward-edit"], roles["windward-system-windward-view"]
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert ("windward.dev", "greenjobs", "create") in rules(edit)
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert {verb for _, _, verb in rules(view)} == {"get", "list", "watch"}


def pod_specs(objects: list[Body]) -> list[Body]:
    specs = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    return specs + [one["spec"] for one in objects if one["kind"] == "Pod"]


@pytest.mark.parametrize("name", VALUE_SETS)
def test_our_pods_are_restricted(helm: Helm, name: str) -> None:
    specs = pod_specs(render(helm, name))
    assert specs
    for spec in specs:
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == 65532  # a number: the kubelet cannot check a name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in spec["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} <= one["resources"].keys()
        assert not any("hostPath" in volume for volume in spec.get("volumes", []))


def test_a_token_is_mounted_where_the_api_is_spoken_to(helm: Helm) -> None:
    objects = render(helm)
    assert all(spec["automountServiceAccountToken"] for spec in pod_specs(objects))
    assert not any(one["automountServiceAccountToken"] for one in objects if one["kind"] == "ServiceAccount")


def test_there_is_never_a_second_operator(helm: Helm) -> None:
    spec = deployment(render(helm))["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_probes_ask_for_life_and_readiness(helm: Helm) -> None:
    one = container(render(helm))
    assert one["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert one["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {"name": "http", "containerPort": 8080, "protocol": "TCP"} in one["ports"]


def test_settings_reach_the_operator(helm: Helm) -> None:
    told = environment(render(helm, "demonstration"))
    assert told["WINDWARD_PROVIDER"] == "trace"
    assert told["WINDWARD_TRACE_FILE"] == "/trace/trace.csv"
    assert told["WINDWARD_RESYNC_SECONDS"] == "1"
    assert told["WINDWARD_LOG_LEVEL"] == "DEBUG"
    assert told["WINDWARD_WORKER_IMAGE"] == "ghcr.io/windward-dev/windward-worker:0.1.0"
    assert environment(render(helm, "scoped"))["WINDWARD_NAMESPACES"] == "team-a,team-b"


def test_a_recording_is_mounted_where_it_is_looked_for(helm: Helm) -> None:
    objects = render(helm, "demonstration")
    volumes = deployment(objects)["spec"]["template"]["spec"]["volumes"]
    assert {"name": "trace", "configMap": {"name": "recording"}} in volumes
    assert {"name": "trace", "mountPath": "/trace", "readOnly": True} in container(objects)["volumeMounts"]
    assert "WINDWARD_TRACE_FILE" not in environment(render(helm))


def test_every_setting_that_the_chart_sends_is_one_that_the_operator_reads(helm: Helm) -> None:
    """A setting that nobody reads does nothing, silently."""
    for name in VALUE_SETS:
        sent = {n for n in environment(render(helm, name)) if n.startswith("WINDWARD_")}
        assert sent <= {f"WINDWARD_{field.upper()}" for field in Settings.model_fields}


def test_every_variable_of_every_provider_reaches_it_by_the_secret(helm: Helm) -> None:
    """The whole Secret is the environment; a variable that the chart set itself would hide the one in it."""
    for name in VALUE_SETS:
        objects = render(helm, name, "provider.credentials.existingSecret=carbon")
        assert container(objects)["envFrom"] == [{"secretRef": {"name": "carbon"}}]
        assert not set(environment(objects)) & {variable for spec in all_specs() for variable in spec.variables}


def test_the_database_url_is_read_from_its_secret_only(helm: Helm) -> None:
    told = environment(render(helm, "postgres"))["WINDWARD_DATABASE_URL"]
    assert told == {"secretKeyRef": {"name": "windward-book", "key": "dsn"}}


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("default", {"emptyDir": {"sizeLimit": "5Gi"}}),
        ("sqlite-on-volume", {"persistentVolumeClaim": {"claimName": "windward-data"}}),
        ("existing-claim", {"persistentVolumeClaim": {"claimName": "my-claim"}}),
    ],
)
def test_where_the_book_lies(helm: Helm, name: str, volume: Body) -> None:
    objects = render(helm, name)
    volumes = deployment(objects)["spec"]["template"]["spec"]["volumes"]
    assert {"name": "data", **volume} in volumes
    made = [one for one in objects if one["kind"] == "PersistentVolumeClaim"]
    assert bool(made) is (name == "sqlite-on-volume")


def test_a_digest_wins_over_a_tag(helm: Helm) -> None:
    assert container(render(helm, "everything"))["image"].startswith("registry.example/operator@sha256:")


def test_monitors_follow_the_cluster_unless_told(helm: Helm) -> None:
    def kinds(*words: str) -> set[str]:
        text = helm.template(CHART, *words)
        return {one["kind"] for one in yaml.safe_load_all(text) if one}

    known = ("--api-versions", "monitoring.coreos.com/v1/ServiceMonitor")
    assert "ServiceMonitor" not in kinds()
    assert "ServiceMonitor" in kinds(*known)
    assert "ServiceMonitor" not in kinds(*known, "--set", "serviceMonitor.enabled=false")
    assert "ServiceMonitor" in kinds("--set", "serviceMonitor.enabled=true")


def test_the_chart_carries_the_generated_crds() -> None:
    """`python tests/chart/sync_crds.py` makes it so."""
    assert contents(GENERATED), "no generated CRDs"
    assert contents(COPIES) == contents(GENERATED)


def test_crds_are_rendered_unchanged_and_kept(helm: Helm) -> None:
    rendered = {o["metadata"]["name"]: o for o in render(helm) if o["kind"] == "CustomResourceDefinition"}
    originals = [yaml.safe_load(text) for text in contents(GENERATED).values()]
    assert rendered.keys() == {one["metadata"]["name"] for one in originals}
    for original in originals:
        ours = rendered[original["metadata"]["name"]]
        assert ours["spec"] == original["spec"]
        assert ours["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for one in render(helm, "default", "crds.keep=false"):
        if one["kind"] == "CustomResourceDefinition":
            assert "helm.sh/resource-policy" not in one["metadata"].get("annotations", {})
    assert not any(o["kind"] == "CustomResourceDefinition" for o in render(helm, "locked-down"))


def test_the_authors_policy_knows_every_kind_of_work_and_asks_for_the_right_to_create_what_runs_it(helm: Helm) -> None:
    policies = [o for o in render(helm) if o["kind"] == "ValidatingAdmissionPolicy"]
    for policy, path in zip(policies, ("spec", "spec.jobTemplate.spec"), strict=False):
        variables = {v["name"]: v["expression"] for v in policy["spec"]["variables"]}
        for kind in KINDS:
            named = f"variables.work.{kind.field}" in variables["field"] or f"'{kind.field}'" in variables["field"]
            assert named, f"{kind.field} has no name in the sentences of {policy['metadata']['name']}"
            if not kind.verb:
                assert f"variables.work.{kind.field}" in variables["pods"], f"pods of {kind.field} are not judged"
        for engine in ENGINES:
            assert f"'{engine.resource.plural}'" in variables["resource"]
            assert f"'{engine.resource.group}'" in variables["group"]
        assert variables["work"] == f"dyn(object.{path})"


def test_the_policy_can_be_narrowed_and_turned_off(helm: Helm) -> None:
    def validations(objects: list[Body]) -> list[int]:
        return [len(o["spec"]["validations"]) for o in objects if o["kind"] == "ValidatingAdmissionPolicy"]

    authors, operator, tenants = [3, 3], 4, 2
    assert validations(render(helm)) == [*authors, operator, tenants], (
        "authors of jobs and schedules, the operator, all"
    )
    assert validations(render(helm, "locked-down")) == [12, 12, operator, tenants]
    assert validations(render(helm, "default", "admissionPolicy.enabled=false")) == []


def test_the_self_test_has_rights_only_while_it_runs(helm: Helm) -> None:
    for name, place in (("default", "windward-system"), ("scoped", "team-a")):
        objects = [o for o in render(helm, name) if o["metadata"]["name"].endswith("-check")]
        assert all(o["metadata"]["annotations"]["helm.sh/hook"] == "test" for o in objects)
        given = rights(objects, "windward-check")
        assert given == {
            "": {("windward.dev", "greenregions", "get"), ("windward.dev", "greenregions", "list")},
            place: {
                *(("windward.dev", "greenjobs", v) for v in ("create", "delete", "get")),
                ("batch", "jobs", "create"),
            },
        }
        told = {one["name"]: one["value"] for one in only(objects, "Pod")["spec"]["containers"][0]["env"]}
        assert told["POD_NAMESPACE"] == place
