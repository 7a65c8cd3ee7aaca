"""No file imports, by way of others, itself: a circle has no first page to read."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"windward_api": "crds", "windward": "operator", "windward_worker": "workers", "windward_kernels": "kernels"}


def modules():
    out = {}
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder / package).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


def imports(name, path, known):
    """Modules of ours that a file names in an import, wherever that stands; of a package, the module that is meant."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                target = inner if inner in known else node.module
                if target != name and not name.startswith(f"{target}."):
                    yield target


def circles(graph):
    """Strongly connected components of more than one module (Tarjan, SIAM J. Comput. 1, 1972)."""
    index, low, stack, out = {}, {}, [], []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in graph[v]:
            if w not in index:
                visit(w)
            if w in stack:
                low[v] = min(low[v], low[w])
        if low[v] == index[v]:
            component = stack[stack.index(v) :]
            del stack[stack.index(v) :]
            if len(component) > 1:
                out.append(sorted(component))

    for v in graph:
        if v not in index:
            visit(v)
    return out


def test_no_circle_of_files():
    known = modules()
    graph = {name: sorted(set(imports(name, path, known))) for name, path in known.items()}
    assert circles(graph) == []


def test_a_circle_would_be_found():
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]
