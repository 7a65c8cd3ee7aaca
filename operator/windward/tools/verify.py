"""Computes every joule, gram and saving of an export (docs/accounting.md) again. One file, standard library only.

    windward report --export receipts.json && python verify.py receipts.json

Exit code 0: all figures agree to 1e-6; 1: some do not, each is named; 2: the file is no export.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterator
from datetime import datetime, timezone

TOLERANCE, KWH_J = 1e-6, 3.6e6
MARKS = {"simulated": "simulated", "demo": "demonstration", "timeScale": "warped clock", "rehearsal": "rehearsal"}
METHODS = ["measured", "modelled", "estimated"]  # best first
QUALITIES = ["measured", "recorded", "estimated", "forecast"]


class Receipt:
    """One receipt; `faults` yields what does not agree with a recomputation."""

    def __init__(self, entry: dict) -> None:
        self.entry, self.body = entry, entry["body"]
        self.name = f"{self.body['job']['namespace']}/{self.body['job']['name']}"
        self.zones = {source["zone"]: source for source in self.body["intensity"]}
        self.own = {one["region"]: one for one in self.body.get("onSite", ())}
        self.rows = self.body["intervals"]
        self.runs = {run["attempt"]: run for run in self.body["runs"]}

    def faults(self) -> Iterator[str]:
        for check in (self._hashes, self._intervals, self._totals, self._baseline):
            yield from check()

    def mean(self, zone: str, region: str, start: float, end: float) -> tuple[float, str] | None:
        """(g/kWh over [start, end], weakest quality), with what the region generates itself; None where unknown."""
        own = self.own.get(region)
        spans = own["hoursUtc"] if own is not None and own["zone"] == zone else []
        area, at, weakest = 0.0, start, 0
        for a, b, grid, quality in self.zones.get(zone, {}).get("periods", ()):
            if b <= start or a >= end:
                continue
            if a > at:
                return None
            stop = min(b, end)
            area += _mixed(grid, own, spans, at, stop)
            weakest, at = max(weakest, QUALITIES.index(quality)), stop
        if at < end or end <= start:
            return None
        return area / (end - start), QUALITIES[weakest]

    def _hashes(self) -> Iterator[str]:
        if _sha256(self.body) != self.entry["sha256"] or self.entry["settled"] is not self.body["settled"]:
            yield "the body is not the one that its hash, or its settled, names"
        if ("note" in self.body) != ("timeScale" in self.body):
            yield "timeScale: its mark and its note do not stand together"
        for zone, source in self.zones.items():
            if _sha256({k: v for k, v in source.items() if k != "vintage"}) != source["vintage"]:
                yield f"intensity of {zone}: not the one that its vintage names"

    def _intervals(self) -> Iterator[str]:
        for i, row in enumerate(self.rows):
            at = f"interval {i}"
            intensity = self.mean(row["zone"], row["region"], _s(row["start"]), _s(row["end"]))
            if intensity is None:
                yield from _same(f"{at}: emissionsGrams", row["emissionsGrams"], None)
                continue
            grams = row["joules"] / KWH_J * intensity[0] * row["pue"]
            yield from _same(f"{at}: intensityGramsPerKwh", row["intensityGramsPerKwh"], intensity[0])
            yield from _same(f"{at}: emissionsGrams", row["emissionsGrams"], grams)
            own = (intensity[1], self.zones[row["zone"]]["vintage"], self.runs.get(row["attempt"], row)["region"])
            if (row["quality"], row["vintage"], row["region"]) != own:
                yield f"{at}: quality, vintage or region is not that of its hours and its run"

    def _totals(self) -> Iterator[str]:
        body, rows = self.body, self.rows
        grams = [row["emissionsGrams"] for row in rows]
        spans: dict[tuple, tuple[float, float]] = {}
        for row in rows:
            key, (a, b) = (row["attempt"], row["podUid"]), (_s(row["start"]), _s(row["end"]))
            spans[key] = (min(a, spans.get(key, (a, b))[0]), max(b, spans.get(key, (a, b))[1]))
        ran_s, joules = sum(b - a for a, b in spans.values()), sum(row["joules"] for row in rows)
        yield from _same("energyJoules", body["energyJoules"], joules)
        yield from _same("emissionsGrams", body["emissionsGrams"], None if None in grams else sum(grams))
        yield from _same("runTimeSeconds", body["runTimeSeconds"], ran_s)
        mean_w = joules / ran_s if ran_s else 0.0
        yield from _same("meanPowerWatts", body["meanPowerWatts"], mean_w, TOLERANCE + 4e-6 / max(ran_s, 1e-3))
        if rows and body["method"] != max((row["method"] for row in rows), key=METHODS.index):
            yield f"method: the weakest is not {body['method']}"
        yield from _same("lateSeconds", body["lateSeconds"], max(0.0, _s(body["finishedAt"]) - _s(body["finishBy"])))
        phases, succeeded = [run["phase"] for run in body["runs"]], body["outcome"] == "Succeeded"
        if body["failedRuns"] != phases.count("Failed") or succeeded != ("Succeeded" in phases):
            yield "failedRuns, or outcome: not what the runs say"

    def _baseline(self) -> Iterator[str]:
        body, base = self.body, self.body["baseline"]
        if base is None:
            for name in ("runNowGrams", "savedGrams"):
                yield from _same(name, body[name], None)
            return
        if body["outcome"] == "Failed":
            yield "baseline: work that failed for good has none"
        kept = self.kept()
        for stated, own in zip(base["kept"], kept):
            for key in ("attempt", "share", "speed", "draw"):
                yield from _same(f"baseline: kept of run {own['attempt']}: {key}", stated.get(key, 1.0), own[key])
            yield from _at_the_time(f"baseline: kept of run {own['attempt']}", stated, own["start"], own["end"])
        useful_s, start = sum((k["end"] - k["start"]) * k["share"] * k["speed"] for k in kept), _s(body["submittedAt"])
        parts = [(row, *part) for row in self.rows if (part := _part(row, kept)) is not None]
        joules = sum(j * k["speed"] * k["draw"] for _, k, _, _, j in parts)
        intensity = self.mean(base["zone"], base["region"], start, start + useful_s)
        mean_w = joules / useful_s if useful_s else 0.0
        yield from _same("baseline: usefulSeconds", base["usefulSeconds"], useful_s)
        tolerance = TOLERANCE + 4e-6 / max(useful_s, 1e-3)  # its ends are rounded to the microsecond
        yield from _same("baseline: energyJoules", base["energyJoules"], joules, tolerance)
        yield from _same("baseline: meanPowerWatts", base["meanPowerWatts"], mean_w, tolerance)
        if intensity is None:
            yield "baseline: its hours are not in this receipt"
            return
        home = (intensity[1], self.zones[base["zone"]]["vintage"], body["declared"]["home"])
        if (base["quality"], base["vintage"], base["region"]) != home:
            yield "baseline: quality, vintage or region is not that of its hours at home"
        yield from _at_the_time("baseline", base, start, start + useful_s)
        grams = joules / KWH_J * intensity[0] * base["pue"]
        yield from _same("baseline: intensityGramsPerKwh", base["intensityGramsPerKwh"], intensity[0])
        yield from _same("baseline: emissionsGrams", base["emissionsGrams"], grams)
        yield from _same("runNowGrams", body["runNowGrams"], grams)
        if body["emissionsGrams"] is not None:
            yield from _same("savedGrams", body["savedGrams"], grams - body["emissionsGrams"])
            yield from self._levers(grams, parts)

    def kept(self) -> list[dict]:
        """What was kept of each run, from what the runs reported (docs/accounting.md, "Useful work")."""
        declared, done = self.body["declared"], 0.0
        out: list[dict] = []
        for attempt in sorted({row["attempt"] for row in self.rows}):
            rows, run = [row for row in self.rows if row["attempt"] == attempt], self.runs.get(attempt)
            start, end = min(_s(r["start"]) for r in rows), max(_s(r["end"]) for r in rows)
            resumed = any(k["end"] > k["start"] for k in out)
            begin = min(start + declared["overheadSeconds"], end) if resumed else start
            level = next((v for v in declared["levels"] if run and v["name"] == run.get("powerLevel")), None)
            speed = declared["durationSeconds"] / level["durationSeconds"] if level else 1.0
            progress = run.get("progress") if run is not None else None
            stop = _kept_until(run, progress, done, begin, end, declared["durationSeconds"] / speed)
            stop = max(begin, round(stop, 6))  # less than a microsecond is none
            if progress is not None and stop > begin:
                done = max(done, progress)
            draw = self._draw(level, rows, start, end)
            one = {"attempt": attempt, "start": begin, "end": stop, "share": 1.0, "speed": speed, "draw": draw}
            out.append(one | {"reported": progress is not None})
        return _bounded(out, declared["durationSeconds"])

    def _draw(self, level: dict | None, rows: list[dict], start: float, end: float) -> float:
        declared_w = self.body["declared"]["powerWatts"]
        if level is None or end <= start:
            return 1.0
        draw, seen_w = declared_w / level["watts"], sum(r["joules"] for r in rows) / (end - start)
        return float(max(1.0, min(draw, declared_w / seen_w)) if draw > 1.0 and seen_w > 0 else draw)

    def _levers(self, baseline_g: float, parts: list[tuple]) -> Iterator[str]:
        base, levers = self.body["baseline"], self.body["levers"]
        later = there = useful = 0.0
        for row, k, start, end, joules in parts:
            home = self.mean(base["zone"], base["region"], start, end)
            here = self.mean(row["zone"], row["region"], start, end)
            if home is None or here is None:
                yield from _same("levers", levers, None)
                return
            as_declared = joules / KWH_J * k["speed"] * k["draw"]
            later += as_declared * home[0] * base["pue"]
            there += as_declared * here[0] * row["pue"]
            useful += joules / KWH_J * here[0] * row["pue"]
        own = (baseline_g - later, later - there, there - useful, useful - self.body["emissionsGrams"])
        for name, grams in zip(("hoursGrams", "placeGrams", "powerGrams", "overheadGrams"), own):
            yield from _same(f"levers: {name}", (levers or {}).get(name), grams)
        yield from _same("levers: their sum", sum((levers or {}).values()), self.body["savedGrams"])


def _mixed(grid: float, own: dict | None, spans: list[dict], start: float, end: float) -> float:
    """Integral over [start, end] of share x own + (1 - share) x grid, in g/kWh x s."""
    if own is None or not spans:
        return grid * (end - start)
    area, at = 0.0, start
    while at < end:
        hour = (at % 86400) / 3600
        edges = [e for s in spans for e in (s["from"], s["to"]) if e > hour + 1e-9]
        stop = min(end, at - at % 86400 + 3600 * min([*edges, 24]))
        share = next((s["share"] for s in spans if s["from"] <= hour + 1e-9 and hour + 1e-9 < s["to"]), 0.0)
        area += (share * own["intensityGramsPerKwh"] + (1 - share) * grid) * (stop - at)
        at = stop
    return area


def _part(row: dict, kept: list[dict]) -> tuple | None:
    """(run, start, end, joules) of a row's useful part."""
    k, a, b = next(k for k in kept if k["attempt"] == row["attempt"]), _s(row["start"]), _s(row["end"])
    start, end = max(a, k["start"]), min(b, k["end"])
    return None if start >= end else (k, start, end, row["joules"] * (end - start) / (b - a) * k["share"])


def _kept_until(run: dict | None, share: float | None, done: float, begin: float, end: float, all_s: float) -> float:
    if run is None or run["phase"] in ("Starting", "Running", "Stopping", "Succeeded"):
        return end
    if share is not None:
        if share <= done:
            return begin
        return end if run["phase"] == "Paused" else min(end, begin + (share - done) * all_s)
    return end if run["phase"] == "Paused" and run["exitCode"] == 75 else begin


def _bounded(kept: list[dict], declared_s: float) -> list[dict]:
    reported_s, other_s = (
        sum((k["end"] - k["start"]) * k["speed"] for k in kept if k["reported"] is t) for t in (True, False)
    )
    most_s = max(0.0, declared_s - reported_s)
    if len(kept) > 1 and other_s > most_s:
        for k in kept:
            k["share"] = 1.0 if k["reported"] else most_s / other_s
    return kept


def _s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc).timestamp()


def _sha256(body: dict) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _same(what: str, stated: float | None, own: float | None, rel: float = TOLERANCE) -> Iterator[str]:
    if (stated is None) != (own is None):
        yield f"{what}: is {own}, stated is {stated}"
    elif stated is not None and own is not None and not math.isclose(stated, own, rel_tol=rel, abs_tol=TOLERANCE):
        yield f"{what}: is {own:.9g}, stated is {stated:.9g}"


def _at_the_time(what: str, stated: dict, start: float, end: float) -> Iterator[str]:
    for key, own in (("start", start), ("end", end)):
        if abs(_s(stated[key]) - own) > 1e-3:
            yield f"{what}: {key}: is {datetime.fromtimestamp(own, timezone.utc).isoformat()}, stated is {stated[key]}"


def totals(receipts: list[dict]) -> list[dict]:
    """Sums of receipts that count the same thing: kind of data, real or not, outcome."""
    groups: dict[tuple, dict] = {}
    for entry in receipts:
        body = entry["body"]
        kinds = ", ".join(sorted({source["kind"] for source in body["intensity"]}))
        mark = next((mark for key, mark in MARKS.items() if key in body), "")
        key = (kinds, mark, body["outcome"])
        one = groups.setdefault(key, dict(zip(("kind", "mark", "outcome"), key)))
        more: dict[str, float] = {"jobs": 1, "provisional": int(not body["settled"])}
        more["jobsWithoutEmissions"] = int(body["emissionsGrams"] is None)
        more["jobsWithoutBaseline"] = int(body["savedGrams"] is None)
        more |= {n: body[n] or 0.0 for n in ("energyJoules", "emissionsGrams", "runNowGrams", "savedGrams")}
        one.update({name: one.get(name, 0) + value for name, value in more.items()})
    return [groups[key] for key in sorted(groups)]


def verify(export: dict) -> list[str]:
    """What does not agree, one sentence each; empty where everything does."""
    faults: list[str] = []
    for receipt in map(Receipt, export["receipts"]):
        try:
            faults += [f"{receipt.name}: {fault}" for fault in receipt.faults()]
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, StopIteration) as error:
            faults.append(f"{receipt.name}: cannot be computed: {type(error).__name__}: {error}")
    own, stated = totals(export["receipts"]), export["totals"]
    if len(own) != len(stated):
        return [*faults, f"totals: there are {len(own)} groups, stated are {len(stated)}"]
    for a, b in zip(own, stated):
        for name, value in a.items():
            where = f"totals of {a['kind']} {a['mark']} {a['outcome']}: {name}"
            faults += _same(where, b[name], value) if isinstance(value, float) else [where] * (b[name] != value)
    return faults


def main(argv: list[str] | None = None) -> int:
    """Verify the export of which the path is given; returns the exit code."""
    try:
        (path,) = sys.argv[1:] if argv is None else argv
        with open(path, encoding="utf-8") as file:
            export = json.load(file)
        faults = verify(export)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError) as error:
        fix = "windward report --export FILE writes one; then verify.py FILE"
        sys.stderr.write(f"error: no export to verify: {type(error).__name__}: {error}\nfix: {fix}\n")
        return 2
    n = len(export["receipts"])
    well = f"every figure agrees to {TOLERANCE:g}" if n else "nothing to verify"
    print(*faults, f"{n} receipts: {f'{len(faults)} faults' if faults else well}", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
