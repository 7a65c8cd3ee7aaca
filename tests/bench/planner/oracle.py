"""What the best plan can be, by HiGHS: the linear relaxation, and the whole problem in so many seconds.

Seconds are of the processor, so that a MIP is not cut short by what else the machine does.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import highspy
import numpy as np

from windward.planning.arrays.instance import Instance, runs


def model(fleet: Instance, whole: bool) -> highspy.HighsLp:
    """One variable for each start of each lane; one row for each job, one for each bounded slot."""
    resources, regions, slots = fleet.cap.shape
    count, lane = len(fleet.grams), fleet.lane_of_cell
    job = np.repeat(np.arange(fleet.size), np.diff(fleet.starts))
    start = runs(fleet.first, fleet.width)
    length = fleet.slots[lane]
    at = runs(fleet.region[lane] * slots + start, length)  # cells' slots, one after another
    of = np.repeat(np.arange(count), length)
    rows, cols, values = [job], [np.arange(count)], [np.ones(count)]
    for q in range(resources):
        units = fleet.units[lane[of], q]
        keep = units > 0
        rows.append(fleet.size + q * regions * slots + at[keep])
        cols.append(of[keep])
        values.append(units[keep])
    row, col, value = np.concatenate(rows), np.concatenate(cols), np.concatenate(values)
    order = np.lexsort((row, col))
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = count, fleet.size + fleet.cap.size
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = fleet.grams, np.zeros(count), np.ones(count)
    lp.row_lower_ = np.concatenate([np.ones(fleet.size), np.full(fleet.cap.size, -highspy.kHighsInf)])
    lp.row_upper_ = np.concatenate([np.ones(fleet.size), np.where(np.isfinite(fleet.cap), fleet.cap, 1e12).ravel()])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.searchsorted(col[order], np.arange(count + 1)).astype(np.int32)
    lp.a_matrix_.index_ = row[order].astype(np.int32)
    lp.a_matrix_.value_ = value[order]
    if whole:
        lp.integrality_ = [highspy.HighsVarType.kInteger] * count
    return lp


def solved(fleet: Instance, *, whole: bool, seconds: float = 1e9) -> dict[str, float]:
    """Grams of the best plan found and the bound; `found_g` is infinite where none was."""
    h = highspy.Highs()
    h.setOptionValue("output_flag", False)
    h.setOptionValue("threads", 1)
    h.setOptionValue("mip_rel_gap", 1e-6)
    h.passModel(model(fleet, whole))
    began = time.process_time()
    for hook in (h.cbMipInterrupt, h.cbSimplexInterrupt):
        hook.subscribe(lambda event: event.interrupt() if time.process_time() - began > seconds else None)
    h.run()
    info = h.getInfo()
    found = info.primal_solution_status == 2
    return {
        "found_g": float(info.objective_function_value) if found else float("inf"),
        "bound_g": float(info.mip_dual_bound if whole else info.objective_function_value),
        "optimal": float(h.getModelStatus() == highspy.HighsModelStatus.kOptimal),
    }


def cached(fleet: Instance, *, whole: bool, seconds: float, folder: Path | None) -> dict[str, float] | None:
    """As `solved`, remembered in a folder by the instance's content; None where `seconds` is 0 and none is there."""
    arrays = (fleet.lanes, fleet.region, fleet.first, fleet.width, fleet.slots, fleet.units, fleet.grams, fleet.cap)
    key = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()[:24]
    path = folder / f"{'mip' if whole else 'lp'}-{key}-{seconds:g}.json" if folder else None
    if path and path.exists():
        return dict(json.loads(path.read_text()))
    if seconds <= 0:
        return None
    answer = solved(fleet, whole=whole, seconds=seconds)
    if path and folder:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(answer))
    return answer
