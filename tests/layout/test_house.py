"""The house stays in order: floors, base install, generated files, pinned requirements, explained names."""

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from windward_api.crd import render
from windward_api.reference import reference

ROOT = Path(__file__).parents[2]
ABSENT = (
    "kopf", "kubernetes", "torch", "triton", "prometheus_client", "structlog", "pydantic_settings", "psycopg", "pynvml",
    "safetensors", "tokenizers", "transformers", "pyarrow", "obstore",
)  # fmt: skip
NEEDS_NONE = [
    "crds/windward_api", "operator/windward/domain", "operator/windward/planning", "operator/windward/lifecycle",
    "operator/windward/manifests", "operator/windward/forecasting", "operator/windward/grid", "operator/windward/ledger",  # noqa: E501
    "operator/windward/reports",
    "operator/windward/cli", "workers/windward_worker/control", "workers/windward_worker/energy", "workers/windward_worker/execution",  # noqa: E501
    *(
        f"operator/windward/cluster/{n}.py"
        for n in ("port", "local", "local_runs", "locks", "parse", "run_files", "run_table", "store", "supervisors")
    ),
    *(
        f"operator/windward/service/{n}.py"
        for n in (
            "controller", "apply", "local", "clock", "sync_crons", "sync_regions", "cycle_timer", "planned",
            "providers", "submissions",
        )
    ),
]  # fmt: skip


def module_names():
    out = []
    for place in NEEDS_NONE:
        path = ROOT / place
        files = [path] if path.suffix else sorted(path.rglob("*.py"))
        assert files and all(f.exists() for f in files), place
        for file in files:
            parts = file.relative_to(ROOT).with_suffix("").parts[1:]
            # Alembic's own environment and revisions are run by it, never imported; __main__ runs.
            if "migrations" not in parts and parts[-1] != "__main__":
                out.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return out


def test_the_base_install_imports_everything_that_promises_to_need_no_extra():
    code = f"""
        import importlib, sys, traceback
        absent = {ABSENT!r}
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in absent:
                    raise ModuleNotFoundError(f"No module named {{name!r}} (base install)", name=name)
        sys.meta_path.insert(0, Absent())
        broken = {{}}
        for name in {module_names()!r}:
            try:
                importlib.import_module(name)
            except Exception as e:
                broken[name] = repr(e)
        assert not set(absent) & {{m.split(".")[0] for m in sys.modules}}
        print(*(f"{{k}}: {{v}}" for k, v in broken.items()), sep="\\n")
        sys.exit(bool(broken))
    """
    done = subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contracts_between_rooms_hold():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


@pytest.mark.parametrize(("name", "text"), render().items(), ids=list(render()))
def test_generated_crds_are_what_is_committed(name, text):
    assert (ROOT / "crds" / name).read_text() == text, "run: python -m windward_api crds"


def test_the_generated_reference_is_what_is_committed_and_explains_every_field():
    page = reference()
    assert (ROOT / "docs" / "reference.md").read_text() == page, "run: python -m windward_api"
    assert [line for line in page.splitlines() if line.endswith("|  |")] == []


def test_no_generated_crd_is_left_behind():
    assert {p.name for p in (ROOT / "crds").glob("*.yaml")} == set(render())


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.name)
def test_requirements_are_pinned_by_hash_and_name_no_index(path):
    text = path.read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host|^-[if] ", text, re.MULTILINE)
    joined = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    entries = [line for line in joined if not line.lstrip().startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


def public(tree, path):
    """Public functions and classes with their dotted names; what stands inside a function is private."""

    def walk(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield f"{prefix}.{child.name}", child, isinstance(node, ast.ClassDef)
                if isinstance(child, ast.ClassDef):
                    yield from walk(child, f"{prefix}.{child.name}")
            elif not isinstance(child, ast.expr):
                yield from walk(child, prefix)

    yield from walk(tree, path)


SOURCES = [p for top in ("operator", "crds") for p in sorted((ROOT / top).rglob("*.py")) if "versions" not in p.parts]


def test_all_functions_say_what_they_return():
    silent = [
        name
        for path in SOURCES
        for name, node, _ in public(ast.parse(path.read_text()), str(path.relative_to(ROOT)))
        if not isinstance(node, ast.ClassDef) and node.returns is None
    ]
    assert silent == []


def test_all_public_classes_and_functions_are_explained():
    """Methods of a class that implements a port are explained there; short properties by their names."""
    silent = []
    for path in SOURCES:
        for name, node, method in public(ast.parse(path.read_text()), str(path.relative_to(ROOT))):
            hidden = any(part.startswith("_") for part in name.partition(".py.")[2].split("."))
            if not hidden and not method and ast.get_docstring(node) is None:
                silent.append(name)
    assert silent == []


def test_every_module_says_what_it_is():
    assert [
        str(p) for p in SOURCES if p.read_text().strip() and ast.get_docstring(ast.parse(p.read_text())) is None
    ] == []


# Comparisons of times in the service that choose no action on an object; each with what it is for.
TIMES_COMPARED = {
    "clock.py": "sleeps until a time",
    "controller.py": "the next wake-up is the least of those that lie ahead",
    "guard.py": "the one guard: what raised is tried again after its back-off",
    "cycle_timer.py": "a warped clock goes on from where the first run of a cycle began",
    "loop.py": "liveness: how long ago the last good cycle was",
    "metrics.py": "counts what ended late",
    "past_durations.py": "a ledger that did not answer is left alone for a while",
    "planned.py": "how far forecasts are prolonged",
    "settling.py": "a laptop's stamp of its last look; a sentence",
    "watch_monitor.py": "liveness: how long a change was not delivered",
}


def test_rules_on_when_to_act_stand_in_the_reconciler_and_not_in_the_service():
    times = re.compile(
        r"\b(now|at|due|times|attempts?|retry|until|since|started|finished|finish_by|timedelta)(_|\b)|_at\b"
    )
    ordered = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
    found = {}
    for path in sorted((ROOT / "operator/windward/service").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(op, ordered) for op in node.ops):
                text = ast.unparse(node)
                if times.search(text):
                    found.setdefault(path.name, []).append(f"{node.lineno}: {text}")
    assert set(found) == set(TIMES_COMPARED), {k: v for k, v in found.items() if k not in TIMES_COMPARED}
