"""Every command under bad inputs: the documented exit code, `error:` and `fix:` on lines of their own, no traceback.

One row an input; `{name}` is a file that `folder` makes. What no row may do is run work or write state.
"""
# ruff: noqa: E501  (a table is read row by row)

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from cli.waiting import RUN

from windward.cli.app import app

AT = ("--at", "2022-05-11T15:00:00Z")
REHEARSE = ("--start", "2022-05-11T15:00:00Z", "--speed", "3600")
USAGE, NOT_FOUND, UNREACHABLE = 2, 4, 5
JOB = """apiVersion: windward.dev/v1alpha1
kind: GreenJob
metadata: {name: one}
spec:
  completeWithin: 12h
  duration: 2h
  placement: {regions: [here]}
  template: {spec: {containers: [{name: one, image: none, command: ["true"]}]}}
---
apiVersion: windward.dev/v1alpha1
kind: GreenRegion
metadata: {name: here}
spec: {gridZone: GB}
"""
CRON = """apiVersion: windward.dev/v1alpha1
kind: GreenCronJob
metadata: {name: nightly}
spec:
  schedule: "0 20 * * *"
  window: 10h
  jobTemplate: {spec: {duration: 2h, placement: {regions: [here]}, train: {steps: 10}}}
---
apiVersion: windward.dev/v1alpha1
kind: GreenRegion
metadata: {name: here}
spec: {gridZone: GB}
"""
ROWS = "".join(f"2022-01-{1 + h // 24:02}T{h % 24:02}:00:00Z,{200 + h}\n" for h in range(240))
TRACE = "timestamp_utc,carbon_intensity_gco2_kwh\n" + ROWS
KIND = json.dumps({"signal": "Average", "scope": "LifeCycle", "basis": "Consumption"})

MANIFESTS: dict[str, str | bytes] = {
    "job.yaml": JOB,
    "cron.yaml": CRON,
    "empty.yaml": "",
    "comments.yaml": "# nothing\n---\n---\n",
    "binary.yaml": bytes(range(256)),
    "nul.yaml": b"\0\0\0\0",
    "latin.yaml": "# Köln\n".encode("latin-1") + JOB.encode(),
    "utf16.yaml": JOB.encode("utf-16"),
    "tabs.yaml": JOB.replace("  completeWithin", "\tcompleteWithin"),
    "open.yaml": "a: [",
    "list.yaml": "- 1\n- 2\n",
    "text.yaml": "just words\n",
    "number.yaml": "42\n",
    "cycle.yaml": "a: &a [*a]\n",
    "python.yaml": "!!python/object/apply:os.system ['true']\n",
    "twice.yaml": JOB.replace("  duration: 2h", "  duration: 2h\n  duration: 3h"),
    "two-names.yaml": JOB + "---\n" + JOB.replace("12h", "13h"),
    "kind.yaml": JOB.replace("GreenJob", "GreenJop", 1),
    "no-kind.yaml": JOB.replace("kind: GreenJob\n", "", 1),
    "no-api.yaml": JOB.replace("apiVersion: windward.dev/v1alpha1\n", "", 1).replace("GreenJob", "Pod", 1),
    "version.yaml": JOB.replace("v1alpha1", "v9", 1),
    "other-kinds.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: ml}\n",
    "region.yaml": JOB.split("---\n")[1],
    "no-region.yaml": JOB.split("---\n")[0],
    "metadata.yaml": JOB.replace("metadata: {name: one}", "metadata: 7", 1),
    "no-name.yaml": JOB.replace("metadata: {name: one}", "metadata: {}", 1),
    "number-name.yaml": JOB.replace("{name: one}", "{name: 7}", 1),
    "no-spec.yaml": JOB.replace("spec:\n  completeWithin: 12h\n", "spek:\n  completeWithin: 12h\n"),
    "spec-list.yaml": JOB.split("spec:")[0] + "spec: []\n",
    "template.yaml": JOB.replace('{spec: {containers: [{name: one, image: none, command: ["true"]}]}}', "7"),
    "no-command.yaml": JOB.replace(', command: ["true"]', ""),
    "date.yaml": JOB.replace("completeWithin: 12h", "deadline: 2030-01-01"),
    "noon.yaml": JOB.replace("completeWithin: 12h", "deadline: noon"),
    "year-1.yaml": JOB.replace("completeWithin: 12h", 'deadline: "0001-01-01T00:00:00Z"'),
    "year-9999.yaml": JOB.replace("completeWithin: 12h", 'deadline: "9999-12-31T23:59:59Z"'),
    "long.yaml": JOB.replace("completeWithin: 12h", "completeWithin: 999999d"),
    "norway.yaml": JOB.replace("gridZone: GB", "gridZone: NO"),
    "float-zone.yaml": JOB.replace("gridZone: GB", "gridZone: 1.5"),
    "uk.yaml": JOB.replace("gridZone: GB", "gridZone: UK"),
    "nan.yaml": JOB.replace("duration: 2h", "duration: 2h\n  power: {watts: .nan}"),
    "inf.yaml": JOB.replace("duration: 2h", "duration: 2h\n  priority: .inf"),
    "huge.yaml": JOB.replace("duration: 2h", "duration: 2h\n  priority: " + "9" * 400),
    "cron-schedule.yaml": CRON.replace("0 20 * * *", "tomorrow morning"),
    "cron-minute.yaml": CRON.replace("0 20 * * *", "99 20 * * *"),
    "cron-reboot.yaml": CRON.replace("0 20 * * *", "@reboot"),
    "cron-zone.yaml": CRON.replace("  window", "  timeZone: Mars/Olympus\n  window"),
    "cron-continent.yaml": CRON.replace("  window", "  timeZone: Europe\n  window"),
    "cron-window.yaml": CRON.replace("10h", "1h"),
    "cron-no-region.yaml": CRON.split("---\n")[0],
}
TRACES: dict[str, str | bytes] = {
    "words/DE.csv": "no,such,columns\n1,2,3\n",
    "empty/DE.csv": "",
    "headed/DE.csv": TRACE.splitlines()[0] + "\n",
    "semicolons/DE.csv": TRACE.replace(",", ";"),
    "tabs/DE.csv": TRACE.replace(",", "\t"),
    "utf16/DE.csv": TRACE.encode("utf-16"),
    "binary/DE.csv": bytes(range(256)) * 4,
    "gap/DE.csv": "".join(line for i, line in enumerate(TRACE.splitlines(True)) if i != 100),
    "letters/DE.csv": TRACE.replace(",250", ",many"),
    "times/DE.csv": TRACE.replace("2022-01-02T00", "yesterday"),
    "not-gz/DE.csv.gz": b"no gzip at all",
    "cut-gz/DE.csv.gz": gzip.compress(TRACE.encode())[:60],
    "parquet/DE.parquet": b"no parquet",
    "none/README": "no recording here",
    "no-zone.csv": TRACE,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("inputs")
    for name, content in {**MANIFESTS, **TRACES, "other.txt": "x"}.items():
        path = made / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if path.parent != made:
            (path.parent / "trace.json").write_text(KIND)
    (made / "trace.json").write_text(KIND)
    (made / "kindless").mkdir()
    (made / "kindless" / "DE.csv").write_text(TRACE)
    (made / "fleet.csv").write_text("submit_s,duration_s,gpus\n0,soon,1\n")
    (made / "short-fleet.csv").write_text("submit_s,duration_s,gpus\n0\n")
    (made / "columns.csv").write_text("a,b\n1,2\n")
    (made / "kube.yaml").write_text("clusters: 7\n")
    (made / "gone.yaml").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "contexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {}}]\n"
    )
    return made


def planned(name: str) -> list[tuple[str, list[str], int]]:
    """One manifest through every command that reads it."""
    out = [(f"{verb} {name}", [verb, "-f", f"{{{name}}}", *more], USAGE) for verb, more in VERBS.items()]
    return [row for row in out if (row[0] not in FINE)]


VERBS = {"plan": AT, "run": ("--yes", *REHEARSE), "backtest": ("--policy", "run-now")}
# What one command refuses and another has a good answer for.
FINE = {
    "backtest date.yaml", "plan no-command.yaml", "backtest no-command.yaml", "plan uk.yaml", "plan no-region.yaml",
    "plan cron-no-region.yaml",
}  # fmt: skip
SKIPPED = {"job.yaml", "cron.yaml"}

TABLE: list[tuple[str, list[str], int]] = [
    *[row for name in MANIFESTS if name not in SKIPPED for row in planned(name)],
    *[
        (f"forecast {name}", ["forecast", "DE", "--trace", f"{{{name}}}", "--at", "2022-01-05T00:00:00Z"], code)
        for name, code in [
            *((Path(n).parts[0], USAGE) for n in TRACES if n not in ("none/README", "no-zone.csv", "gap/DE.csv")),
            ("none", USAGE), ("no-zone.csv", USAGE), ("kindless", USAGE), ("nowhere", USAGE), ("other.txt", USAGE),
        ]
    ],
    ("unknown command", ["bogus"], USAGE),
    ("misspelt command", ["forcast"], USAGE),
    ("unknown option", ["list", "--bogus"], USAGE),
    ("a value for a flag", ["plan", "-f", "{job.yaml}", "--check=7"], USAGE),
    ("an option without its value", ["plan", "-f"], USAGE),
    ("too many arguments", ["list", "one"], USAGE),
    ("no name", ["why"], USAGE),
    ("two names", ["why", "a", "b"], USAGE),
    ("providers alone", ["providers", "bogus"], USAGE),
    ("zones alone", ["zones", "bogus"], USAGE),
    ("demo speed nan", ["demo", "--speed", "nan"], USAGE),
    ("demo speed below zero", ["demo", "--speed", "-1"], USAGE),
    ("demo speed inf", ["demo", "--speed", "inf"], USAGE),
    ("demo in a file", ["demo", "--plain", "--keep", "{other.txt}"], USAGE),
    ("demo below a file", ["demo", "--plain", "--keep", "{other.txt}/x"], USAGE),
    *[(f"{c} -o xml", [*c.split(), "-o", "xml"], USAGE) for c in (
        "demo", "forecast", "plan -f {job.yaml}", "run", "apply -f {job.yaml}", "list", "why x", "run-now x", "hold x",
        "release x", "cancel x", "report", "settle", "simulate", "backtest -f {job.yaml}", "providers list", "providers test trace",
        "zones search", "doctor", "crd", "version")],
    *[(f"forecast at {at}", ["forecast", "GB", "--at", at], USAGE) for at in (
        "noon", "2022-05-11", "2022-05-11T15:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1e9", "2022-13-01T00:00Z",
        "2022-05-11T15:00:00+99:00", "\x1b]52;c;x\x07")],
    *[(f"forecast horizon {h}", ["forecast", "GB", "--horizon", h, *AT], USAGE) for h in (
        "2 days", "0h", "-1h", "99999d", "1.5h", "nan", "")],
    *[(f"forecast duration {h}", ["forecast", "GB", "--duration", h, *AT], USAGE) for h in ("4", "0s", "400d")],
    ("forecast scale", ["forecast", "GB", "--scale", "log", *AT], USAGE),
    ("forecast scale of json", ["forecast", "GB", "--scale", "zone", "-o", "json", *AT], USAGE),
    ("forecast of a path", ["forecast", "../etc/passwd", *AT], USAGE),
    ("forecast of nothing", ["forecast", "", *AT], USAGE),
    ("forecast of a stranger", ["forecast", "ATLANTIS", *AT], UNREACHABLE),
    ("forecast of UK", ["forecast", "UK", *AT], UNREACHABLE),
    ("forecast by tea", ["forecast", "GB", "--provider", "tea", *AT], USAGE),
    ("forecast by nobody", ["forecast", "GB", "--provider", ",", *AT], USAGE),
    ("forecast by two", ["forecast", "GB", "--provider", "trace,tea", *AT], USAGE),
    ("forecast without a key", ["forecast", "GB", "--provider", "electricitymaps", *AT], USAGE),
    ("a trace for another", ["forecast", "GB", "--provider", "neso", "--trace", "{gap}", *AT], USAGE),
    ("plan without a file", ["plan"], USAGE),
    ("plan of nowhere", ["plan", "-f", "nowhere.yaml"], USAGE),
    ("plan of a folder", ["plan", "-f", "{gap}"], USAGE),
    ("plan below a file", ["plan", "-f", "{other.txt}/x.yaml"], USAGE),
    ("plan of a name with NUL", ["plan", "-f", "a\0b"], USAGE),
    ("plan of a very long name", ["plan", "-f", "x" * 5000], USAGE),
    ("run of nothing", ["run"], USAGE),
    ("run without --", ["run", "python3", "-c", "print(1)"], USAGE),
    ("run -c alone", ["run", "-c", "true"], USAGE),
    ("run with a file and a command", ["run", "-f", "{job.yaml}", "--", "true"], USAGE),
    *[(f"run -f with {o[0]}", ["run", "-f", "{job.yaml}", *o], USAGE) for o in (
        ("--zone", "GB"), ("--duration", "1h"), ("--deadline", "2h"), ("--watts", "5"), ("--name", "x"), ("--pausable",))],
    ("run --yes of a command", ["run", "--yes", "--", "true"], USAGE),
    ("run unasked", ["run", "-f", "{job.yaml}"], USAGE),
    ("run a cron", ["run", "-f", "{cron.yaml}"], USAGE),
    ("run with a deadline alone", ["run", "--deadline", "3h", "--", "true"], USAGE),
    ("run in a zone of two words", ["run", "--zone", "D E", "--", "true"], USAGE),
    ("run longer than its deadline", ["run", "--zone", "GB", "--duration", "5h", "--deadline", "3h", "--", "true"], USAGE),
    ("run in NO-NO1", ["run", "--zone", "NO-NO1", "--duration", "1h", "--", "true"], USAGE),
    ("run rehearsed live", ["run", "--provider", "neso", *REHEARSE, "--", "true"], USAGE),
    ("run on a recording that is over", ["run", "--zone", "DE", "--trace", "{nowhere}", "--", "true"], USAGE),
    ("apply without a file", ["apply"], USAGE),
    ("apply without consent", ["apply", "-f", "{job.yaml}"], USAGE),
    ("apply with a context here", ["apply", "-f", "{job.yaml}", "--context", "a"], USAGE),
    *[(f"apply {o[0]} to a cluster", ["apply", "-f", "{job.yaml}", "--cluster", *o], USAGE) for o in (
        ("--provider", "neso"), ("--trace", "{gap}"), ("--speed", "2"), ("--start", "2022-05-11T15:00:00Z"), ("--yes",))],
    *[(f"{verb} {what}", [verb, *words], code) for verb in ("why", "run-now", "hold", "release", "cancel") for what, words, code in (
        ("nobody", ["nobody"], NOT_FOUND), ("a path", ["../../x"], USAGE), ("nothing", [""], USAGE), ("capitals", ["A"], USAGE),
        ("another namespace", ["ml/x", "-n", "default"], USAGE), ("a bad namespace", ["x", "-n", "../x"], USAGE),
        ("a context here", ["x", "--context", "a"], USAGE), ("a kubeconfig here", ["x", "--kubeconfig", "{kube.yaml}"], USAGE),
        ("nowhere", ["x", "--cluster"], UNREACHABLE), ("a broken kubeconfig", ["x", "--cluster", "--kubeconfig", "{kube.yaml}"], UNREACHABLE),
        ("a kubeconfig that is not", ["x", "--cluster", "--kubeconfig", "{nowhere}"], UNREACHABLE),
        ("an unknown context", ["x", "--cluster", "--kubeconfig", "{gone.yaml}", "--context", "b"], UNREACHABLE),
        ("a cluster that is gone", ["x", "--cluster", "--kubeconfig", "{gone.yaml}"], UNREACHABLE))],
    ("list of a bad namespace", ["list", "-n", "A B"], USAGE),
    ("list nowhere", ["list", "--cluster"], UNREACHABLE),
    ("list a cluster that is gone", ["list", "--cluster", "--kubeconfig", "{gone.yaml}"], UNREACHABLE),
    ("report of nobody", ["report", "--name", "nobody"], NOT_FOUND),
    *[(f"report of {d}", ["report", "--database", d], UNREACHABLE) for d in (
        "sqlite:////nowhere/book.db", "nonsense", "sqlite:///{other.txt}", "mysql://u:pass@h/x", "postgresql://u:secret@127.0.0.1:9/x", "://")],
    *[(f"simulate {o[0]} {o[1]}", ["simulate", *o], USAGE) for o in (
        ("--jobs", "0"), ("--jobs", "-5"), ("--jobs", "many"), ("--days", "0"), ("--days", "4000"), ("--util", "0"), ("--util", "nan"),
        ("--util", "-1"), ("--pausable", "2"), ("--pausable", "nan"), ("--faults", "luck=1"), ("--faults", "late_jobs"),
        ("--faults", "late_jobs=nan"), ("--faults", "late_jobs=-1"), ("--faults", "late_jobs=2"), ("--policy", "magic"), ("--policy", ""),
        ("--foresight", "magic"), ("--step", "0m"), ("--step", "fast"), ("--seed", "-1"), ("--seed", "x"), ("--zones", "ATLANTIS"),
        ("--start", "noon"), ("--start", "2031-01-01T00:00:00Z"), ("--start", "2022-12-31T00:00:00Z"), ("--trace", "{nowhere}"),
        ("--trace", "{gap}"), ("--trace", "{words}"), ("--trace", "{empty}"), ("--fleet", "{nowhere}"), ("--fleet", "{binary.yaml}"),
        ("--fleet", "{columns.csv}"), ("--fleet", "{fleet.csv}"), ("--fleet", "{short-fleet.csv}"), ("--fleet", "{not-gz/DE.csv.gz}"),
        ("--page", "{nowhere}/page.html"), ("--page", "{gap}"))],
    *[(f"backtest {o[0]} {o[1]}", ["backtest", "-f", "{job.yaml}", *o], USAGE) for o in (
        ("--year", "1999"), ("--year", "0"), ("--year", "99999"), ("--every", "0h"), ("--every", "often"), ("--zone", "UK"),
        ("--page", "{nowhere}/page.html"), ("--policy", "magic"), ("--foresight", "x"), ("--step", "x"), ("--trace", "{kindless}"))],
    ("providers test tea", ["providers", "test", "tea"], USAGE),
    ("providers test without a key", ["providers", "test", "watttime"], USAGE),
    ("providers test an unknown zone", ["providers", "test", "trace", "--zone", "UK"], UNREACHABLE),
    ("providers test a path", ["providers", "test", "trace", "--zone", "../x"], UNREACHABLE),
    ("zones search nothing", ["zones", "search", "atlantis"], NOT_FOUND),
]  # fmt: skip


def filled(arguments: list[str], folder: Path) -> list[str]:
    out = []
    for a in arguments:
        while "{" in a:
            before, _, rest = a.partition("{")
            name, _, after = rest.partition("}")
            a = f"{before}{folder / name}{after}"
        out.append(a)
    return out


def check(code: int, out: str, err: str, expected: int) -> None:
    lines = err.splitlines()
    assert code == expected, err
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and len(errors[0]) > len("error: "), err
    assert any(line.startswith("fix:   ") and len(line) > 10 for line in lines), err
    for word in ("Traceback", "fault of Windward", "Usage:", "Please report", "Error:"):
        assert word not in err + out, err
    assert "\x1b" not in err and "secret@" not in err, err


def test_the_table_is_long_and_names_every_command():
    commands = {r[1][0] for r in TABLE}
    assert len(TABLE) >= 150
    assert commands >= set(typer.main.get_command(app).commands) - {"bogus"}  # type: ignore[attr-defined]
    assert len({r[0] for r in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("arguments", "code"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE])
def test_a_bad_input_is_told(windward, home, folder, monkeypatch, arguments, code):
    for name in [n for n in os.environ if n.startswith("WINDWARD_") and n != "WINDWARD_HOME"]:
        monkeypatch.delenv(name)
    told = windward(*filled(arguments, folder))
    check(told.code, told.out, told.err, code)
    assert not list(home.rglob("runs/*")), "nothing ran"


STATES = ["a file instead of a folder", "no database", "cut off", "no place to write"]
LOOKS = [["list"], ["why", "x"], ["run", "--", "true"], ["hold", "x"], ["report"]]


@pytest.mark.parametrize("command", LOOKS, ids=lambda c: c[0])
@pytest.mark.parametrize("state", STATES)
def test_a_broken_state_is_told(windward, home, monkeypatch, state, command):
    if state == "a file instead of a folder":
        home.write_text("x")
    if state == "no place to write":
        monkeypatch.setenv("WINDWARD_HOME", "/proc/none")  # root may not write there either
    if state == "no database":
        home.mkdir()
        for name in ("local.db", "book.db"):
            (home / name).write_bytes(bytes(range(256)) * 40)
    if state == "cut off":
        assert windward("run", "--", "true").code == 0
        for name in ("local.db", "book.db"):
            path = home / name
            path.write_bytes(path.read_bytes()[:100] + b"\xff" * 4000)
            for more in ("-wal", "-shm"):
                Path(f"{path}{more}").unlink(missing_ok=True)
    told = windward(*command)
    if state in (STATES[0], STATES[3]) and command[0] != "run":  # there is nothing yet, and looking makes nothing
        assert told.code == (NOT_FOUND if len(command) > 1 else 0), told.err
        return
    assert told.code in (1, UNREACHABLE), told.err
    check(told.code, told.out, told.err, told.code)


CHILDREN = [
    ("no such file", ["plan", "-f", "nowhere.yaml"], {}, USAGE),
    ("an ASCII terminal", ["plan", "-f", "{latin.yaml}"], {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}, USAGE),
    ("a state that is a file", ["run", "--", "true"], {"WINDWARD_HOME": "/dev/null"}, 1),
    ("a strange log level", ["plan"], {"WINDWARD_LOG_LEVEL": "loud"}, USAGE),
    ("a narrow terminal", ["why", "nobody"], {"COLUMNS": "20"}, NOT_FOUND),
    ("a strange COLUMNS", ["why", "nobody"], {"COLUMNS": "wide"}, NOT_FOUND),
]


@pytest.mark.parametrize(("arguments", "env", "code"), [c[1:] for c in CHILDREN], ids=[c[0] for c in CHILDREN])
def test_as_a_process_too(folder, tmp_path, arguments, env, code):
    env = {**os.environ, "WINDWARD_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), **env}
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN, *filled(arguments, folder)], env=env, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    check(done.returncode, done.stdout, done.stderr, code)
