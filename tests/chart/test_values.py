"""What a user may write into the chart's values, and what he reads when he errs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.kube import Helm
from cluster.kube.helm import HelmFailed

from windward.grid.registry import NAMES

CHART = Path(__file__).resolve().parents[2] / "charts" / "windward"
VALUE_SETS = sorted(file.stem for file in (Path(__file__).parent / "values").glob("*.yaml"))


@pytest.mark.parametrize("name", VALUE_SETS)
def test_every_value_set_lints_and_renders(helm: Helm, name: str) -> None:
    values = Path(__file__).parent / "values" / f"{name}.yaml"
    helm.run("lint", "--strict", CHART, "--values", values)
    objects = [one for one in yaml.safe_load_all(helm.template(CHART, "--values", values)) if one]
    identities = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects]
    assert len(identities) == len(set(identities)), "two objects of one name"
    assert "Deployment" in {kind for kind, _, _ in identities}


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("provder.name=neso", "additional properties 'provder' not allowed"),
        ("image.pulPolicy=Always", "additional properties 'pulPolicy' not allowed"),
        ("crds.remove=true", "additional properties 'remove' not allowed"),
        ("provider.name=magic", "/provider/name"),
        (r"provider.name=neso\,magic", "/provider/name"),
        ("provider.credentials.existingSecret=My_Keys", "/provider/credentials/existingSecret"),
        ("intervals.resync=0", "/intervals/resync"),
        ("logLevel=loud", "/logLevel"),
        ("provider.trace.existingConfigMap=A_Map", "/provider/trace/existingConfigMap"),
        ("scope.namespaces={Team_A}", "/scope/namespaces/0"),
    ],
)
def test_a_mistake_is_refused_by_its_name(helm: Helm, word: str, named: str) -> None:
    with pytest.raises(HelmFailed) as refused:
        helm.template(CHART, "--set", word)
    assert named in refused.value.text


def test_the_schema_knows_exactly_the_registered_providers() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    names = "|".join(NAMES)
    assert schema["properties"]["provider"]["properties"]["name"]["pattern"] == f"^({names})(,({names}))*$"
    comment = (CHART / "values.yaml").read_text().partition("\nprovider:\n")[2].partition("\n  name:")[0]
    assert [name for name in NAMES if name not in re.findall(r"[a-z][a-z0-9-]+", comment)] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["provider.name=neso", "provider.trace.existingConfigMap=recording"],
            "provider.trace.existingConfigMap: has no effect with provider.name neso",
        ),
        (["serviceAccount.create=false"], "serviceAccount.name: is required with serviceAccount.create: false"),
    ],
)
def test_a_contradiction_is_refused_with_its_fix(helm: Helm, words: list[str], sentence: str) -> None:
    with pytest.raises(HelmFailed) as refused:
        helm.template(CHART, *[part for word in words for part in ("--set", word)])
    assert sentence in refused.value.text


def test_an_api_server_without_policies_is_told_what_it_would_lose(helm: Helm) -> None:
    with pytest.raises(HelmFailed) as refused:
        helm.template(CHART, "--kube-version", "1.29.3")
    assert "a right to create GreenJobs is a right to create pods" in refused.value.text
    helm.template(CHART, "--kube-version", "1.29.3", "--set", "admissionPolicy.enabled=false")


def test_a_kubernetes_that_is_too_old_is_refused(helm: Helm) -> None:
    with pytest.raises(HelmFailed) as refused:
        helm.template(CHART, "--kube-version", "1.28.9", "--set", "admissionPolicy.enabled=false")
    assert ">=1.29.0-0" in refused.value.text


def open_objects(schema: dict[str, Any], at: str = "") -> list[str]:
    """Paths of objects that take any key, where the schema knows keys to expect."""
    found = [at] if "properties" in schema and schema.get("additionalProperties") is not False else []
    for name, child in schema.get("properties", {}).items():
        found += open_objects(child, f"{at}/{name}")
    if isinstance(schema.get("items"), dict):
        found += open_objects(schema["items"], f"{at}[]")
    return found


def keys(schema: dict[str, Any], values: Any, at: str = "") -> tuple[set[str], set[str]]:
    """Paths that the schema knows, and paths that the values file shows."""
    known, shown = set(), set()
    for name, child in schema.get("properties", {}).items():
        known.add(f"{at}/{name}")
        if isinstance(values, dict) and isinstance(values.get(name), dict):
            below_known, below_shown = keys(child, values[name], f"{at}/{name}")
            known |= below_known
            shown |= below_shown
    shown |= {f"{at}/{name}" for name in values} if isinstance(values, dict) and "properties" in schema else set()
    return known, shown


def test_the_schema_is_closed_and_says_what_the_values_file_says() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert open_objects(schema) == []
    known, shown = keys(schema, values)
    # Left out of the values file: keys of lists' items, and what Kubernetes itself documents.
    assert known - shown == {"/resources/claims"}
    assert shown - known == set()


def notes(helm: Helm, *words: str) -> str:
    sets = [part for word in words for part in ("--set", word)]
    return helm.run("install", "windward", CHART, "-n", "windward-system", "--dry-run=client", *sets)


def test_notes_say_what_the_data_is(helm: Helm) -> None:
    assert "DEMO DATA" in notes(helm)
    live = notes(helm, "provider.name=neso")
    assert "live, provider neso" in live
    assert "DEMO DATA" not in live


def test_notes_say_what_is_not_kept_and_not_guarded(helm: Helm) -> None:
    assert "LOST WITH THE POD" in notes(helm)
    assert "LOST WITH THE POD" not in notes(helm, "database.existingSecret=book")
    assert "Policy: OFF" in notes(helm, "admissionPolicy.enabled=false")
    assert "Policy: OFF" not in notes(helm)
