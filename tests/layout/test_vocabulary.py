"""Names and public texts use the field's terms (docs/glossary.md): the words that were given up stay so."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GIVEN_UP = {  # word -> what it is called
    "ears": "watch monitor", "deaf": "stale", "bell": "wake", "grounds": "plan inputs", "strayed": "drifted",
    "conductor": "controller", "tend": "sync", "tends": "sync", "seated": "placed", "toll": "price",
    "kicked": "perturbed", "guest": "displaced", "guests": "displaced", "dear": "congested", "desk": "admission",
    "ticket": "request handle", "orders": "runtime signals", "pace": "batch policy",
    "astray": "elsewhere",
}  # fmt: skip
# They name nothing: a name says what the thing is. As prose they are plain English.
FILLERS = {"made", "found", "mine", "said", "told", "asked"}
OF_OTHERS = {"NotFound", "connection_made"}  # HTTP's and asyncio's
TEXTS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "charts", "examples", "docs"]
# In prose some of them are plain English with another meaning.
PROSE = {"orders", "pace", "dear", "guests", "bell", "grounds", "tend", "tends", "ticket", "guest"}


def names():
    for folder in ("crds", "operator", "workers", "kernels"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                        yield path, node.name
                    case ast.arg():
                        yield path, node.arg
                    case ast.Attribute():
                        yield path, node.attr
                    case ast.Name(ctx=ast.Store()):
                        yield path, node.id


def parts(name):
    return {part.lower() for part in re.findall(r"[a-z]+|[A-Z][a-z]*", name)}


def test_no_name_is_a_word_that_was_given_up():
    found = {f"{path.relative_to(ROOT)}: {name}" for path, name in names() if parts(name) & GIVEN_UP.keys()}
    assert found == set()


def test_no_name_is_a_filler():
    fillers = {f"{path.relative_to(ROOT)}: {name}" for path, name in names() if parts(name) & FILLERS}
    assert {one for one in fillers if one.partition(": ")[2] not in OF_OTHERS} == set()


@pytest.mark.parametrize("word", sorted(GIVEN_UP.keys() - PROSE))
def test_no_public_text_uses_a_word_that_was_given_up(word):
    files = [f for text in TEXTS for f in ([ROOT / text] if (ROOT / text).is_file() else (ROOT / text).rglob("*.*"))]
    pages = [f for f in files if f.suffix in (".md", ".yaml", ".tpl", ".json", ".txt")]
    assert len(pages) > 40
    found = [str(f.relative_to(ROOT)) for f in pages if re.search(rf"\b{word}\b", f.read_text(), re.I)]
    assert found == [], f"say {GIVEN_UP[word]}"
