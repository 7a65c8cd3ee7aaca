"""The registry is the one list of providers: what stands elsewhere names the same ones."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from grid.services import SERVICES

from windward.grid.provider_spec import declared_kind, declared_pairs, flag
from windward.grid.registry import NAMES, all_specs, spec_of

ROOT = Path(__file__).parents[2]
GRID = ROOT / "operator" / "windward" / "grid"


def readme_rows() -> list[tuple[list[str], str]]:
    """The names and the key of each row in README's table of carbon data."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Carbon data\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [(re.findall(r"`([^`]+)`", names), key.strip()) for names, _, key in rows]


def test_each_provider_is_registered_under_its_own_name():
    assert tuple(spec.name for spec in all_specs()) == NAMES


def test_the_table_in_readme_names_exactly_the_registered_providers():
    assert sorted(name for names, _ in readme_rows() for name in names) == sorted(NAMES)


def test_the_table_in_readme_says_who_needs_a_key():
    assert {name: key for names, key in readme_rows() for name in names} == {s.name: s.key for s in all_specs()}


def test_every_module_that_declares_a_provider_is_registered():
    declaring = {p.stem for p in GRID.glob("*.py") if re.search(r"^SPEC = ", p.read_text(encoding="utf-8"), re.M)}
    assert declaring == {spec.open.__module__.rpartition(".")[2] for spec in all_specs()}


@pytest.mark.parametrize("spec", all_specs(), ids=lambda s: s.name)
def test_a_provider_declares_every_variable_that_its_module_reads(spec):
    module = GRID / f"{spec.open.__module__.rpartition('.')[2]}.py"
    tree = ast.parse(module.read_text(encoding="utf-8"))
    strings = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    assert {s for s in strings if re.fullmatch(r"WINDWARD_[A-Z_]+", s)} == set(spec.variables)


@pytest.mark.parametrize("spec", [s for s in all_specs() if s.live], ids=lambda s: s.name)
def test_every_live_provider_stands_in_the_conformance_suite(spec):
    assert spec.name in {service.name for service in SERVICES}


def test_an_unknown_name_is_answered_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"no provider 'magic': choose one of trace, neso, .*, static$"):
        spec_of("magic")


def test_what_lacks_is_what_is_required_and_empty():
    spec = spec_of("watttime")
    assert spec.missing({}) == list(spec.required)
    assert spec.missing({"WINDWARD_WATTTIME_USER": "u", "WINDWARD_WATTTIME_PASSWORD": ""}) == [spec.required[1]]
    assert spec.variables == (*spec.required, "WINDWARD_WATTTIME_REGIONS")


def test_variables_are_read_in_one_form():
    assert flag({"A": "True"}, "A") and not flag({"A": "1"}, "A") and not flag({}, "A")
    assert declared_pairs({"A": "DE=380, FR=60,"}, "A", "ZONE=g/kWh") == {"DE": "380", "FR": "60"}
    assert declared_pairs({}, "A", "ZONE=g/kWh") == {}
    assert str(declared_kind({"A": "Marginal/Direct/Consumption"}, "A")) == "marginal direct consumption"
    for wrong in ("DE", "=3", "DE="):
        with pytest.raises(ValueError, match=f"A: '{wrong}' is not ZONE=g/kWh"):
            declared_pairs({"A": wrong}, "A", "ZONE=g/kWh")
