"""Useful work is what was kept: waste never raises a saving, and what each lever saved adds up to it."""

import copy
import json
import os
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycle.cases import HOUR, SLOW, T0, observed, report, run
from lifecycle.test_accounting import DE, REGIONS, row, series

from windward.domain.fleet import OnSite, Region
from windward.domain.run import Phase
from windward.domain.series import Quality
from windward.ledger import codec
from windward.lifecycle.accounting import account, energy_of_run
from windward.lifecycle.baseline import levers_of
from windward.lifecycle.receipt import receipt_of
from windward.reports.export import export_of
from windward.tools.verify import main, totals, verify
from windward_api.contract import Outcome

LONG = int(os.environ.get("WINDWARD_LONG", "0"))
P, F, L, S = Phase.PAUSED, Phase.FAILED, Phase.LOST, Phase.SUCCEEDED
CHECKPOINT = {"interruption": {"policy": "Checkpoint", "overhead": "15m"}}
DAYS = {
    "SE": series("SE", np.random.default_rng(1).uniform(5, 60, 400).tolist()),
    "DE": series("DE", np.random.default_rng(2).uniform(100, 700, 400).tolist()),
}


def weighed(runs, power=None, **job):
    """A job's account from its runs alone, each at declared watts."""
    seen = observed(*runs, **({"power": power} if power else {}), **job)
    rows = [r for one in runs for r in energy_of_run(seen, one, REGIONS[one.region], T0 + 300 * HOUR)]
    return seen, rows, account(seen, rows, DAYS, REGIONS)


def useful_h(*runs, **job):
    made = weighed(runs, **job)[2]
    return made.baseline.useful_s / 3600 if made.baseline is not None else None


@pytest.mark.parametrize(
    ("runs", "hours"),
    [
        ([run(1, S, end_h=2)], 2),
        ([run(1, S, end_h=3)], 3),  # it took longer than declared, unbroken: so it would have at once
        ([run(1, F, end_h=2), run(2, S, start_h=3, end_h=5)], 2),  # failed, and began anew
        ([run(1, F, end_h=2), run(2, F, start_h=3, end_h=5), run(3, S, start_h=6, end_h=8)], 2),
        ([run(1, L, end_h=1.5), run(2, S, start_h=3, end_h=5)], 2),
        ([run(1, P, end_h=1), run(2, S, start_h=3, end_h=4.25)], 2),  # a quarter of an hour to resume
        ([run(1, P, end_h=1, code=143), run(2, S, start_h=3, end_h=5)], 2),  # it ignores the contract: nothing is kept
        # Three times the whole, and nothing was told: at most the whole.
        ([run(n, P, start_h=3 * n, end_h=3 * n + 2) for n in (1, 2)] + [run(3, S, start_h=9, end_h=11)], 2),
        ([run(1, F, end_h=2, report=report(0.5)), run(2, S, start_h=3, end_h=4.25, report=report(1.0))], 2),
        ([run(1, F, end_h=0.5, report=report(0.5)), run(2, S, start_h=3, end_h=4.25, report=report(1.0))], 1.5),
        ([run(1, P, end_h=1, report=report(0.5)), run(2, S, start_h=3, end_h=6.25, report=report(1.0))], 4),
        ([run(1, P, end_h=1, report=report(0.5)), run(2, P, start_h=2, end_h=3, report=report(0.5)),
          run(3, S, start_h=4, end_h=5.25, report=report(1.0))], 2),  # one went nowhere
    ],
)  # fmt: skip
def test_useful_is_what_was_kept(runs, hours):
    assert useful_h(*runs, **CHECKPOINT) == pytest.approx(hours)


def test_a_job_that_failed_for_good_saved_nothing_and_says_what_it_cost():
    runs = [run(n, F, start_h=3 * n, end_h=3 * n + 2) for n in (1, 2, 3)]
    seen, _, made = weighed(runs, backoffLimit=2)
    assert made.baseline is None and made.saved_g is None and made.emissions_g > 0
    told = receipt_of(seen, made, DAYS, REGIONS, T0 + 20 * HOUR)
    assert (told["outcome"], told["failedRuns"], told["savedGrams"]) == ("Failed", 3, None)
    assert told["lateSeconds"] == 8 * 3600


def test_work_redone_three_times_is_a_loss():
    """It ignores each pause and begins anew, in hours and places as good as any: what it wasted it lost."""
    flat = {"SE": series("SE", [300] * 40), "DE": series("DE", [300] * 40)}
    regions = {n: Region(n, z) for n, z in (("north", "SE"), ("south", "DE"))}
    runs = [run(n, P, start_h=3 * n, end_h=3 * n + 1.9, code=143) for n in (1, 2, 3)] + [
        run(4, S, start_h=15, end_h=17)
    ]
    seen = observed(*runs, **CHECKPOINT)
    rows = [r for one in runs for r in energy_of_run(seen, one, regions[one.region], T0 + 30 * HOUR)]
    made = account(seen, rows, flat, regions)
    assert made.saved_g == pytest.approx(-0.36 * 300 * 3 * 1.9)


def test_one_failure_costs_what_the_failed_run_cost():
    undisturbed = weighed([run(1, S, start_h=5, end_h=7)])[2]
    _, rows, made = weighed([run(1, F, start_h=1, end_h=2.5), run(2, S, start_h=5, end_h=7)])
    failed_g = account(observed(run(1)), [r for r in rows if r.attempt == 1], DAYS, REGIONS).emissions_g
    assert made.saved_g == pytest.approx(undisturbed.saved_g - failed_g)


@st.composite
def histories(draw):
    """Runs one after another: how each ended, for how long it ran, what it told; and their waste."""
    told = draw(st.booleans())
    n, at, done, runs = draw(st.integers(1, 5)), 0.0, 0.0, []
    for attempt in range(1, n + 1):
        phase = S if attempt == n and draw(st.booleans()) else draw(st.sampled_from([P, F, L]))
        start, length = at + draw(st.floats(0, 5)), draw(st.floats(0.05, 3))
        at = start + length
        done = min(1.0, max(0.0, done + draw(st.floats(-0.3, 0.5))))
        more = {"report": report(1.0 if phase is S else done)} if told else {}
        code = draw(st.sampled_from([75, 143])) if phase is P else None
        region, level = draw(st.sampled_from(["north", "south"])), draw(st.sampled_from(["", "slow"]))
        runs.append(run(attempt, phase, region=region, start_h=start, end_h=at, code=code, level=level, **more))
    return runs


@given(runs=histories(), extra=st.floats(0.1, 3), after=st.integers(0, 5))
@settings(max_examples=LONG or 300, deadline=None)
def test_waste_never_raises_a_saving_and_levers_add_up(runs, extra, after):
    _, rows, made = weighed(runs, SLOW, backoffLimit=100, **CHECKPOINT)
    if made.baseline is None:
        return
    levers = levers_of(made.baseline, rows, made.emissions_g, DAYS, REGIONS)
    parts = (levers.hours_g, levers.place_g, levers.power_g, levers.overhead_g)
    assert sum(parts) == pytest.approx(made.saved_g, abs=1e-9 * max(1.0, *map(abs, parts)))
    assert levers.overhead_g <= 1e-9 * made.emissions_g
    # The same history with one more run that came to nothing, somewhere in it.
    k = min(after, len(runs) - 1)
    gone = run(99, L, region="south", start_h=40, end_h=40 + extra)
    wasted = [*runs[:k], gone, *runs[k:]]
    numbered = [type(r)(**{**{f: getattr(r, f) for f in r.__slots__}, "attempt": i + 1}) for i, r in enumerate(wasted)]
    again = weighed(numbered, SLOW, backoffLimit=100, **CHECKPOINT)[2]
    assert again.saved_g <= made.saved_g + 1e-9 * abs(made.saved_g)


# -- the receipt before a stranger -----------------------------------------------------------------------------------


class Entry:
    def __init__(self, body):
        self.body, self.sha256 = body, codec.sha256(codec.canonical(body))
        self.revision, self.settled = 1, body["settled"]


def exported(*bodies):
    return json.loads(json.dumps(export_of([Entry(b) for b in bodies], "0.1.0")))


def receipt(runs, regions=REGIONS, **job):
    seen = observed(*runs, **job)
    rows = [r for one in runs for r in energy_of_run(seen, one, regions[one.region], T0 + 300 * HOUR)]
    made = account(seen, rows, DAYS, regions, T0 + 300 * HOUR)
    return receipt_of(seen, made, DAYS, regions, T0 + 60 * HOUR)


def test_less_than_a_microsecond_of_progress_is_none_for_us_and_for_a_stranger():
    """A failed run told so little that its end is its beginning: what the next one told was not done before."""
    runs = [
        run(1, F, end_h=1, report=report(4e-11, outcome=Outcome.FAILED)),
        run(2, P, start_h=2, end_h=3, report=report(4e-11)),
        run(3, S, start_h=4, end_h=6, report=report(1.0)),
    ]
    assert verify(exported(receipt(runs, backoffLimit=100, **CHECKPOINT))) == []


@given(runs=histories())
@settings(max_examples=LONG or 150, deadline=None)
def test_a_stranger_computes_every_figure_again(runs):
    assert verify(exported(receipt(runs, power=SLOW, backoffLimit=100, **CHECKPOINT))) == []


def test_own_generation_is_computed_again_too():
    own = OnSite(40.0, ((6, 12, 0.5), (12, 18, 0.9)))
    regions = REGIONS | {"north": Region("north", "SE", 1.1, {}, own), "south": Region("south", "DE", 1.25, {}, own)}
    runs = [run(1, P, end_h=7.3, start_h=2.1), run(2, S, region="south", start_h=9, end_h=20)]
    body = receipt(runs, regions, **CHECKPOINT)
    assert {o["region"] for o in body["onSite"]} == {"north", "south"} and verify(exported(body)) == []


def leaves(node, path=()):
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, (*path, key))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path


# On these no figure of energy, emissions or saving rests, but a job's own unit of work.
NO_FIGURE = {"generation", "revision", "unitsDone", "joulesPerUnit", "metrics", "exitCode"}


def forgeries(sound):
    """Each number of an export changed, and the hash of the whole made anew by whoever changed it."""
    for path in leaves(sound):
        if "periods" in path and path[-2] % 40 != 3:
            continue  # one in forty of them
        forged = copy.deepcopy(sound)
        node = forged
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = node[path[-1]] * 1.01 + 1
        for entry in forged["receipts"]:
            entry["sha256"] = codec.sha256(codec.canonical(entry["body"]))
        yield path, forged


def test_any_change_of_any_number_is_found():
    runs = [
        run(1, P, end_h=1, report=report(0.4), level="slow"),
        run(2, F, start_h=2, end_h=4, report=report(0.5)),
        run(3, S, start_h=5, end_h=7, report=report(1.0)),
    ]
    sound = exported(receipt(runs, power=SLOW, **CHECKPOINT))
    assert verify(sound) == []
    missed = []
    for path, forged in forgeries(sound):
        try:
            found = bool(verify(forged))
        except (ValueError, KeyError, StopIteration, TypeError):
            found = True  # what cannot be computed again is no receipt
        if not found and not NO_FIGURE & set(path):
            missed.append(path)
    # The last run kept all of its time: nothing rests on its number, nor on what it told.
    assert {path[3:] for path in missed} == {("intervals", 2, "attempt"), ("runs", 2, "progress")}


WORDS = {
    "outcome": lambda body, _: body.update(outcome="Succeeded"),
    "its mark": lambda body, _: body.pop("timeScale"),
    "when the baseline began": lambda body, _: body["baseline"].update(start="2026-03-02T06:00:01+00:00"),
    "when the baseline ended": lambda body, _: body["baseline"].update(end="2026-03-02T08:00:01+00:00"),
    "when kept work ended": lambda body, _: body["baseline"]["kept"][0].update(end="2026-03-02T07:40:00+00:00"),
    "quality of the baseline": lambda body, _: body["baseline"].update(quality="forecast"),
    "vintage of the baseline": lambda body, _: body["baseline"].update(vintage="0" * 64),
    "region of the baseline": lambda body, _: body["baseline"].update(region="elsewhere"),
    "region of a row": lambda body, _: body["intervals"][0].update(region="elsewhere"),
    "quality of a row": lambda body, _: body["intervals"][0].update(quality="forecast"),
    "method of a row": lambda body, _: body["intervals"][0].update(method="guessed"),
    "levers": lambda body, _: body.update(levers=None),
    "settled": lambda body, entry: entry.update(settled=not body["settled"]),
    "a number that is text": lambda body, _: body["intervals"][0].update(joules="many"),
    "kept is no list": lambda body, _: body["baseline"].update(kept=7),
}


@pytest.mark.parametrize("change", WORDS.values(), ids=WORDS)
def test_any_change_of_a_word_or_a_time_is_found_and_named_though_all_hashes_are_made_anew(change):
    runs = [replace(run(1, S, end_h=2), time_scale=1200.0)]
    if change is WORDS["outcome"]:
        runs = [run(n, F, start_h=3 * n, end_h=3 * n + 1) for n in (1, 2, 3, 4)]
    export = exported(receipt(runs))
    assert verify(export) == [], "sound"
    entry = export["receipts"][0]
    change(entry["body"], entry)
    entry["sha256"] = codec.sha256(codec.canonical(entry["body"]))
    with suppress(Exception):
        export["totals"] = totals(export["receipts"])
    assert verify(export), "not found"


@pytest.mark.parametrize("text", ["[" * 200_000, "[]", "7", '{"receipts": 3}', '{"receipts": [{}], "totals": []}'])
def test_what_is_no_export_is_refused_without_a_traceback(tmp_path, capsys, text):
    path = tmp_path / "export.json"
    path.write_text(text)
    assert main([str(path)]) == 2 and "fix:" in capsys.readouterr().err


def test_nothing_is_not_called_verified(tmp_path, capsys):
    path = tmp_path / "export.json"
    path.write_text(json.dumps(exported()))
    assert main([str(path)]) == 0 and "nothing to verify" in capsys.readouterr().out


def test_the_verifier_is_a_program_of_one_file(tmp_path, capsys):
    path = tmp_path / "export.json"
    path.write_text(json.dumps(exported(receipt([run(1, S, end_h=2)]))))
    assert main([str(path)]) == 0 and "1 receipts: every figure agrees" in capsys.readouterr().out
    broken = json.loads(path.read_text())
    broken["receipts"][0]["body"]["savedGrams"] += 1
    path.write_text(json.dumps(broken))
    assert main([str(path)]) == 1 and "savedGrams" in capsys.readouterr().out
    path.write_text("{}")
    assert main([str(path)]) == 2 and "fix:" in capsys.readouterr().err


def test_settled_means_both_sides():
    """The run's hours are measured, home's are a forecast yet."""
    known = {"SE": series("SE", [20, 40]), "DE": series("DE", [300, 400], (Quality.MEASURED, Quality.FORECAST))}
    one = observed(run(1, S, end_h=2))
    made = account(one, [row(0, 2)], known, REGIONS)
    assert not made.settled and made.baseline.quality is Quality.FORECAST
    assert account(one, [row(0, 2)], known | {"DE": DE}, REGIONS).settled
    assert not account(one, [row(0, 2)], known | {"DE": DE}, REGIONS, T0 + HOUR).settled
    assert timedelta(hours=2) == made.baseline.end - made.baseline.start
