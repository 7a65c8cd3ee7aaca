"""Would a test notice? Small changes to the five files that decide and count: `make mutation`, or this file by itself.

Each mutant is one change to the syntax tree: a comparison moved by its boundary or turned round, + for -, and for or,
a number + 1, True for False, min for max, a condition forced or negated, a value or a statement left out. Prints the
mutants that no test noticed, then a line for each file, and closes with one line of JSON. Score: the share that a test
fails for, or never ends with; mutants that change nothing a caller could see (mutation.yaml says why) are left out and
counted. What is no behaviour is not mutated: annotations, f-strings, strings that are not compared, assertions.

The suite is collected once. A clean pass, in a fork, times each test and notes which lines of the five files it runs.
Every mutant has a fork of its own, into whose collected modules the changed code is put, and runs the tests of its
line, quick and successful ones first, until one fails. Hypothesis draws the same examples each time.

Not mutmut 3.8.1: it imports from `.`, `src` or `source` only, leaves decorated functions (all our properties) and
module-level constants alone, and collects the suite anew for each mutant.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import inspect
import json
import os
import pickle
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ABOUT_JOBS = ("tests/lifecycle", "tests/service/test_controller.py", "tests/service/test_plan_inputs.py")
ABOUT_PLANS = ("tests/planning",)
FILES = {  # module -> the tests that are to notice its mutants
    "windward.lifecycle.accounting": ABOUT_JOBS,
    "windward.lifecycle.decide": ABOUT_JOBS,
    "windward.planning.pauses": ABOUT_PLANS,
    **{f"windward.planning.{m}": ABOUT_PLANS for m in ("problem", "objective", "candidates", "rendering", "placer")},
    "windward.planning.windows": ABOUT_PLANS,
}
TWINS = "not compiled"  # tests that load numba to compare its loops with ours: seconds, whatever they notice
CASES = 100  # of one parametrised test; more of them rarely notice more
BASE_S, FACTOR = 5.0, 4.0  # processor seconds that a mutant has, beside a multiple of those of its tests
MEMORY = 2 << 30  # bytes that a mutant may add
SWAPS = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,), ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,), ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,), ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,), ast.LShift: (ast.RShift,), ast.RShift: (ast.LShift,), ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}  # fmt: skip
PAIRS = [("min", "max"), ("minimum", "maximum"), ("any", "all"), ("floor", "ceil"), ("argmin", "argmax")]
OTHERS = dict(PAIRS) | {b: a for a, b in PAIRS}


@dataclass
class Mutant:
    """One change: `parent.field` (its item `index`, where it is a list) becomes `new`."""

    module: str
    line: int
    end_line: int
    text: str
    change: str
    parent: ast.AST
    field: str
    index: int | None
    new: ast.AST
    inside: bool  # of a function: else every test of the module may notice

    @property
    def key(self) -> tuple[str, str, str]:
        return self.module.rpartition(".")[2], self.text, self.change

    def code(self, tree: ast.Module, path: str) -> CodeType:
        """The module with this change; leaves the tree changed."""
        if self.index is None:
            setattr(self.parent, self.field, self.new)
        else:
            getattr(self.parent, self.field)[self.index] = self.new
        return compile(ast.fix_missing_locations(tree), path, "exec")


def constant(value: object) -> ast.Constant:
    return ast.Constant(value)


def replacements(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of a node of the tree."""
    match node:
        case ast.Compare(left, ops, others):
            for i, op in enumerate(ops):
                yield from (ast.Compare(left, [*ops[:i], new(), *ops[i + 1 :]], others) for new in SWAPS[type(op)])
        case ast.BinOp(left, op, right):
            yield from (ast.BinOp(left, new(), right) for new in SWAPS.get(type(op), ()))
        case ast.AugAssign(target, op, value):
            yield from (ast.AugAssign(target, new(), value) for new in SWAPS.get(type(op), ()))
            yield ast.Pass()
        case ast.BoolOp(op, values):
            yield from (ast.BoolOp(new(), values) for new in SWAPS[type(op)])
        case ast.UnaryOp(_, operand):
            yield operand
        case ast.Constant(bool() as value):
            yield constant(not value)
        case ast.Constant(int() | float() as value):
            yield constant(0 if value == 1 else value + 1)
        case ast.Constant(str()) if isinstance(parent, ast.Compare):
            yield constant("another")
        case ast.Name(name, ctx) if name in OTHERS:
            yield ast.Name(OTHERS[name], ctx)
        case ast.Attribute(value, name, ctx) if name in OTHERS:
            yield ast.Attribute(value, OTHERS[name], ctx)
        case ast.Return(ast.Constant(bool() | None)):
            pass  # None is as false as False
        case ast.Return(value) if value is not None:
            yield ast.Return(constant(None))
        case ast.Assign(targets, value) if not (isinstance(value, ast.Constant) and value.value is None):
            if not isinstance(targets[0], ast.Tuple):
                yield ast.Assign(targets, constant(None))
        case ast.Expr() | ast.Continue() | ast.Break() | ast.Raise():
            yield ast.Pass()


def conditions(node: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    """A condition negated and forced, by field: of a loop it is not forced true, which would only never end."""
    match node:
        case ast.If(test) | ast.IfExp(test) if not (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"):
            yield from (("test", None, new) for new in (ast.UnaryOp(ast.Not(), test), constant(True), constant(False)))
        case ast.While(test) if not isinstance(test, ast.Constant):
            yield from (("test", None, new) for new in (ast.UnaryOp(ast.Not(), test), constant(False)))
        case ast.comprehension(ifs=ifs):
            for i, test in enumerate(ifs):
                yield from (("ifs", i, new) for new in (ast.UnaryOp(ast.Not(), test), constant(True)))


def said(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(node)).split("\n")[0][:70]


def mutants_of(module: str, source: str, tree: ast.Module) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    lines = source.splitlines()
    out: list[Mutant] = []

    def add(parent: ast.AST, field: str, index: int | None, new: ast.AST, where: ast.stmt, inside: bool) -> None:
        old = getattr(parent, field)
        old = old if index is None else old[index]
        line = getattr(old, "lineno", where.lineno)
        ends = [b.lineno - 1 for b in getattr(where, "body", [])[:1]] + [where.end_lineno or where.lineno]
        change = f"{said(old)} -> {said(new)}"
        text = lines[line - 1].strip()
        out.append(Mutant(module, where.lineno, max(ends[0], line), text, change, parent, field, index, new, inside))

    def walk(node: ast.AST, where: ast.stmt, inside: bool) -> None:
        if isinstance(node, ast.stmt):
            where = node
        for field, index, new in conditions(node):
            add(node, field, index, new, where, inside)
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "type_comment") or (
                field == "args" and isinstance(node, ast.FunctionDef)
            ):
                continue
            for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                visit(node, field, index, child, where, inside or isinstance(node, ast.FunctionDef | ast.Lambda))
        if isinstance(node, ast.FunctionDef):
            for field in ("defaults", "kw_defaults"):
                for index, child in enumerate(getattr(node.args, field)):
                    visit(node.args, field, index, child, where, False)

    def visit(parent: ast.AST, field: str, index: int | None, child: object, where: ast.stmt, inside: bool) -> None:
        skipped = ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom
        if not isinstance(child, ast.AST) or isinstance(child, skipped):
            return
        if isinstance(parent, ast.keyword) and parent.arg == "strict":
            return  # of `zip`: an assertion
        text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        names = isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name) and not inside
        if not text:
            at = child if isinstance(child, ast.stmt) else where
            for new in replacements(child, parent):
                if not (names and isinstance(new, ast.Assign)):  # a module's names: their values are mutated
                    add(parent, field, index, new, at, inside)
            walk(child, where, inside)

    walk(tree, tree.body[0], False)
    return sorted(out, key=lambda m: m.line)


def put(module: str, code: CodeType) -> None:
    """Have a module behave as this code of it says."""
    live = importlib.import_module(module).__dict__
    copy = {k: live[k] for k in ("__name__", "__file__", "__package__")}
    exec(code, copy)
    transplant(live, copy)


def transplant(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Put the code of a module's changed copy into the module, whose functions and classes others hold already."""
    for name, there in new.items():
        here = old.get(name)
        if isinstance(there, FunctionType) and isinstance(here, FunctionType):
            if there.__module__ == old["__name__"]:
                _of_function(here, there)
        elif inspect.isclass(there) and inspect.isclass(here):
            if there.__module__ == old["__name__"] and here is not there:
                _of_class(here, there)
        elif not name.startswith("__") and not inspect.ismodule(there) and here != there:
            for module in list(sys.modules.values()):
                held = getattr(module, "__dict__", {})
                if name in held and held[name] is here:
                    held[name] = there


def _of_function(here: FunctionType, there: FunctionType) -> None:
    here.__code__, here.__defaults__, here.__kwdefaults__ = there.__code__, there.__defaults__, there.__kwdefaults__


def _of_class(here: type, there: type) -> None:
    for name, mine in vars(there).items():
        ours = vars(here).get(name)
        if isinstance(mine, property) and isinstance(ours, property):
            mine, ours = mine.fget, ours.fget
        elif isinstance(mine, cached_property) and isinstance(ours, cached_property):
            mine, ours = mine.func, ours.func
        if isinstance(mine, FunctionType) and isinstance(ours, FunctionType):
            _of_function(ours, mine)


class Lines:
    """Which lines of the mutated files run, while it is on."""

    def __init__(self, paths: dict[str, str]) -> None:
        self.paths, self.seen = paths, set[tuple[str, int]]()

    def __call__(self, frame: Any, event: str, _: Any) -> Callable[..., Any] | None:
        module = self.paths.get(frame.f_code.co_filename)
        if module is None:
            return None
        seen = self.seen

        def local(frame: Any, event: str, _: Any) -> Callable[..., Any]:
            seen.add((module, frame.f_lineno))
            return local

        seen.add((module, frame.f_lineno))
        return local


class Runner:
    """A plugin of pytest: in place of running the collected tests once, it runs them for each mutant."""

    def __init__(self, modules: list[str], sample: int, seed: int, slowest_s: float) -> None:
        self.modules, self.sample, self.seed, self.slowest_s = modules, sample, seed, slowest_s
        self.failed, self.told = False, dict[str, dict[str, Any]]()
        told = yaml.safe_load((HERE / "mutation.yaml").read_text("utf-8"))["equivalent"]
        self.equivalent = {(e["file"], e["line"], e.get("change")) for e in told}

    def pytest_configure(self) -> None:
        """Before any test is imported: the same examples each time, and one failure is enough."""
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutation", derandomize=True, database=None, deadline=None, report_multiple_bugs=False,
            phases=(Phase.explicit, Phase.generate),
        )  # fmt: skip
        settings.load_profile("mutation")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        gc.collect()
        gc.freeze()
        items = few_cases(session.items)
        clean = self.clean_pass(items)
        quick = [i for i in items if clean[i.nodeid][0] <= self.slowest_s]
        quick_s = sum(clean[i.nodeid][0] for i in quick)
        slower = len(items) - len(quick)
        print(
            f"\n{len(quick)} tests of {quick_s:.0f} s; {slower} that take more than {self.slowest_s:g} s are left out"
        )
        for module in self.modules:
            self.told[module] = self.score(module, quick, clean)
        return True

    def clean_pass(self, items: list[pytest.Item]) -> dict[str, tuple[float, set[tuple[str, int]]]]:
        """Seconds and lines of each test, which must pass; in a fork, so that nothing is started or cached here."""
        lines = Lines({importlib.import_module(m).__file__: m for m in self.modules})
        if strange := [p for p in lines.paths if not Path(p).is_relative_to(ROOT)]:
            raise pytest.UsageError(f"the tests import another checkout: {', '.join(strange)}")
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            silence(1)
            for path, module in lines.paths.items():  # put in as mutants are, so that this alone makes no test fail
                put(module, compile(Path(path).read_text("utf-8"), path, "exec"))
            out = {}
            for item in items:
                lines.seen, began = set(), time.process_time()
                sys.settrace(lines)
                self.run([item])
                sys.settrace(None)
                if self.failed:
                    print(f"without any change this fails: {item.nodeid}", file=sys.stderr)
                    os._exit(1)
                out[item.nodeid] = (time.process_time() - began, lines.seen)
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(out, pipe)
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            told = pipe.read()
        if os.waitpid(child, 0)[1] != 0:
            raise pytest.UsageError("the clean pass failed")
        return pickle.loads(told)

    def run(self, items: list[pytest.Item]) -> pytest.Item | None:
        """The first that fails, if any does."""
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.failed:
                return item
        return None

    def score(self, module: str, items: list[pytest.Item], clean: dict[str, Any]) -> dict[str, Any]:
        """Counts of a file's mutants by fate, and the share of those noticed."""
        name, path = module.rpartition(".")[2], importlib.import_module(module).__file__
        source = Path(path).read_text("utf-8")
        tree = ast.parse(source)
        mutants = mutants_of(module, source, tree)
        every = len(mutants)
        if self.sample and self.sample < every:
            mutants = random.Random(f"{self.seed} {name}").sample(mutants, self.sample)
            mutants.sort(key=lambda m: m.line)
        fates, kills = Counter[str](), Counter[str]()
        touching = [i for i in items if any(m == module for m, _ in clean[i.nodeid][1])]
        for mutant in mutants:
            if {mutant.key, (*mutant.key[:2], None)} & self.equivalent:
                fates["equivalent"] += 1
                continue
            rows = {(module, n) for n in range(mutant.line, mutant.end_line + 1)}
            mine = [i for i in touching if not mutant.inside or not rows.isdisjoint(clean[i.nodeid][1])]
            mine.sort(key=lambda i: clean[i.nodeid][0] / (1 + kills[i.nodeid]))
            fate, by = self.fate(mutant, tree, path, mine, sum(clean[i.nodeid][0] for i in mine))
            fates[fate] += 1
            kills[by] += 1
            if fate == "survived":
                print(f"survived {len(mine):4} tests  {name}.py:{mutant.line}  {mutant.text}\n    {mutant.change}")
            sys.stdout.flush()
        counted = len(mutants) - fates["equivalent"]
        score = (fates["killed"] + fates["timed out"]) / counted if counted else 1.0
        return {"of": every, "mutants": len(mutants), **fates, "score": round(score, 4)}

    def fate(
        self, mutant: Mutant, tree: ast.Module, path: str, items: list[pytest.Item], clean_s: float
    ) -> tuple[str, str]:
        """What becomes of a mutant, and the test that noticed it."""
        limit_s = int(BASE_S + FACTOR * clean_s)
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))
            resource.setrlimit(resource.RLIMIT_AS, (size() + MEMORY,) * 2)
            silence(1, 2)
            by: str | None = "import"
            try:
                put(mutant.module, mutant.code(tree, path))
                found = self.run(items)
                by = found.nodeid if found is not None else None
            except BaseException:  # whatever it is, the module cannot be used
                pass
            os.write(write, (by or "").encode())
            os._exit(0)
        os.close(write)
        deadline = time.monotonic() + 10 * limit_s  # wall time: for one that waits for ever
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                os.kill(child, 9)
            time.sleep(0.002)
        with os.fdopen(read, "rb") as pipe:
            by = pipe.read().decode()
        if status != 0:
            return "timed out", ""
        return ("killed" if by else "survived"), by


def silence(*descriptors: int) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(quiet, descriptor)


def size() -> int:
    """Bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def few_cases(items: list[pytest.Item]) -> list[pytest.Item]:
    """At most `CASES` of each parametrised test, evenly chosen."""
    by_test: dict[str, list[pytest.Item]] = {}
    for item in items:
        by_test.setdefault(item.nodeid.partition("[")[0], []).append(item)
    return [i for group in by_test.values() for i in group[:: max(1, -(-len(group) // CASES))]]


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutation scores of the files that decide and count.")
    parser.add_argument("--sample", type=int, default=0, help="mutants of each file, drawn at random; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--only", default="", help="files by name, as in decide,windows")
    parser.add_argument("--slowest-s", type=float, default=0.3, help="a test that takes longer is left out")
    args = parser.parse_args()
    only = [w for w in args.only.split(",") if w]
    modules = [m for m in FILES if not only or m.rpartition(".")[2] in only]
    if not modules or {m.rpartition(".")[2] for m in modules} < set(only):
        parser.error(f"--only takes {', '.join(m.rpartition('.')[2] for m in FILES)}")
    os.chdir(ROOT)
    began = time.monotonic()
    runner = Runner(modules, args.sample, args.seed, args.slowest_s)
    paths = list(dict.fromkeys(p for m in modules for p in FILES[m]))
    options = [
        "-qq",
        "--disable-warnings",
        "-p",
        "no:cacheprovider",
        "-o",
        "timeout=0",
        "--tb=no",
        "--capture=no",
        "-k",
        TWINS,
    ]
    if (code := pytest.main([*options, *paths], plugins=[runner])) != 0:
        return int(code)
    print(f"\n{'file':12}" + "".join(f"{h:>11}" for h in ("mutants", "killed", "timed out", "survived", "equivalent")))
    for module, row in runner.told.items():
        counts = "".join(f"{row.get(h, 0):11}" for h in ("mutants", "killed", "timed out", "survived", "equivalent"))
        print(f"{module.rpartition('.')[2]:12}{counts}  score {row['score']:.3f}")
    names = {m.rpartition(".")[2]: row for m, row in runner.told.items()}
    closing = {
        "bench": "mutation", "seed": args.seed, "sample": args.sample, "wall_s": round(time.monotonic() - began),
        "mutants": {n: row["mutants"] for n, row in names.items()},
        "equivalent": {n: row.get("equivalent", 0) for n, row in names.items()},
        "scores": {n: row["score"] for n, row in names.items()},
    }  # fmt: skip
    print(json.dumps(closing))
    return 0


if __name__ == "__main__":
    sys.exit(main())
