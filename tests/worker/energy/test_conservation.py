"""Nothing is counted twice and nothing vanishes, whatever runs share a machine and whatever its counters do.

`WINDWARD_LONG=1000` tries so many schedules.
"""

import os
import random

import pytest
from worker.energy.fakes import FakeMachine, FakeNvml, FakeRapl

from windward_api.contract import Method
from windward_worker.control import MeterError
from windward_worker.energy import EnergyRecorder, NvmlMeter, RaplMeter

SCHEDULES = max(100, int(os.environ.get("WINDWARD_LONG", "0")))
RANGES_UJ = (65_532_610_987, 262_143_328_850)
RESTARTS_FROM_J = 5_000  # a restart above this is no wrap: no zone draws so much in a step


class Schedule:
    """A machine with packages and boards, runs that come and go, work that is none of ours, and mishaps."""

    def __init__(self, seed, root):
        self.dice = random.Random(seed)
        self.ticks = 4 * self.dice.randint(3, 6)
        self.machine = FakeMachine(self.dice.choice([1, 4, 16]))
        self.rapl = FakeRapl(
            root, packages=self.dice.randint(1, 3), dram=self.dice.random() < 0.5, range_uj=self.dice.choice(RANGES_UJ)
        )
        self.root = root
        self.zones = [z for z in self._names() if self._kind(z)]
        for zone in self.zones:  # some are about to wrap
            near = self.dice.random() < 0.5
            self.rapl.set(zone, self.rapl.range_uj - 2_000_000_000 if near else 30_000_000_000)
        self.nvml = FakeNvml([10**9] * self.dice.randint(1, 3), limit_w=self.dice.choice([175.0, 700.0]))
        self.nvml.pids = [[900 + b] if self.dice.random() < 0.4 else [] for b in range(len(self.nvml.counters_mj))]
        self.strangers = {pid for pids in self.nvml.pids for pid in pids}
        self.lost = self._lost_board()
        self.drawn_j = {"rapl": 0.0, "nvml": 0.0}
        self.runs = {}
        self.restarted = set()

    def _names(self):
        return sorted(p.name for p in self.root.glob("intel-rapl:*"))

    def _kind(self, zone):
        name = (self.root / zone / "name").read_text().strip()
        return "cpu" if name.startswith("package-") else "dram" if name == "dram" else None

    def _lost_board(self):
        """A board that falls off the bus for good, in the second half."""
        free = [b for b, pids in enumerate(self.nvml.pids) if not pids]
        return (self.dice.choice(free), self.ticks // 2) if free and self.dice.random() < 0.5 else None

    def meters(self, name, pids):
        clock, use = self.machine.clock, self.machine.use(name, every_s=0.0)
        kinds = sorted({self._kind(zone) for zone in self.zones})
        made = [RaplMeter(kind, root=self.root, use=use, monotonic=clock) for kind in kinds]
        try:
            made.append(NvmlMeter(self.nvml, environ={}, is_ours=pids.__contains__, all_seen=True, monotonic=clock))
        except MeterError:  # its only board was lost before
            assert len(self.nvml.lost) == len(self.nvml.counters_mj)
        return made

    def begin(self, tick):
        """A run starts; the board that will be lost belongs to the first run alone."""
        name, pid = f"run-{tick}", 100 + tick
        for board, pids in enumerate(self.nvml.pids):
            lost = self.lost is not None and board == self.lost[0]
            if not self.runs if lost else self.dice.random() < 0.6:
                pids.append(pid)
        recorder = EnergyRecorder(self.meters(name, {pid}), period_s=3600.0, monotonic=self.machine.clock)
        self.runs[name] = (recorder.start(), pid)

    def end(self, name):
        """A run ends between two steps: within one, use decides whose the step was."""
        recorder, pid = self.runs[name]
        recorder.stop()
        self.nvml.pids = [[p for p in pids if p != pid] for pids in self.nvml.pids]

    def mishaps(self, tick):
        dice = self.dice
        self.nvml.limit_w = dice.choice([175.0, 300.0, 700.0])
        if self.lost is not None and tick >= self.lost[1]:
            self.nvml.lost = {self.lost[0]}
        if tick % 4 == 2:
            return  # what was not read before a restart is lost for all
        for zone in self.zones:
            level_j = int((self.root / zone / "energy_uj").read_text() or 0) / 1e6
            if RESTARTS_FROM_J < level_j < self.rapl.range_uj / 1e6 - RESTARTS_FROM_J and dice.random() < 0.02:
                self.rapl.set(zone, 0)
        for board in range(len(self.nvml.counters_mj)):
            if board not in self.restarted and board not in self.nvml.lost and dice.random() < 0.02:
                self.nvml.counters_mj[board] = 0
                self.restarted.add(board)

    def draw(self):
        """A second passes: everything draws something, and is used by someone."""
        dice = self.dice
        running = [name for name, (recorder, _) in self.runs.items() if not recorder._end.is_set()]
        weights = [dice.random() for _ in [*running, "strangers", "idle"]]
        rates = {
            n: self.machine.cpus * w / sum(weights) for n, w in zip([*running, "strangers"], weights, strict=False)
        }
        self.machine.pass_s(1, **rates)
        for zone in self.zones:
            joules = dice.randint(0, 400)
            self.rapl.add(zone, joules * 1_000_000)
            self.drawn_j["rapl"] += joules
        self.nvml.used = {}
        for board, pids in enumerate(self.nvml.pids):
            joules = 150 if self.lost is not None and board == self.lost[0] else dice.randint(0, int(self.nvml.limit_w))
            self.nvml.counters_mj[board] += joules * 1000
            self.drawn_j["nvml"] += joules
            for pid in pids:
                self.nvml.used[pid] = dice.randint(0, 100 // len(pids))

    def sample(self, witness):
        for recorder in [*self.receipts, witness]:
            if not recorder._end.is_set():
                recorder.sample()

    def sample_with_silence(self, witness):
        """Some counters do not answer this once; they go on counting."""
        hidden = [self.root / zone / "energy_uj" for zone in self.zones if self.dice.random() < 0.2]
        lost = set(self.nvml.lost)
        self.nvml.lost = lost | {b for b in range(len(self.nvml.counters_mj)) if self.dice.random() < 0.2}
        for path in hidden:
            path.rename(path.with_suffix(".hidden"))
        self.sample(witness)
        for path in hidden:
            path.with_suffix(".hidden").rename(path)
        self.nvml.lost = lost

    def play(self):
        """Let it happen; returns the recorder of what is none of ours. All runs have ended then."""
        witness = EnergyRecorder(
            self.meters("strangers", self.strangers), period_s=3600.0, monotonic=self.machine.clock
        ).start()
        lives = {}
        for tick in range(self.ticks):
            if tick == 0 or (tick % 4 == 0 and len(lives) < 4 and self.dice.random() < 0.6):
                self.begin(tick)
                lives[f"run-{tick}"] = self.ticks if tick == 0 else tick + 4 * self.dice.randint(1, 4)
            self.mishaps(tick)
            self.draw()
            if tick % 4 == 1:  # nobody comes or goes meanwhile
                self.sample_with_silence(witness)
            else:
                self.sample(witness)
            for name, until in lives.items():
                if until == tick + 1:
                    self.end(name)
                    self.sample(witness)
        for recorder, _ in self.runs.values():
            recorder.stop()
        witness.stop()
        return witness

    @property
    def receipts(self):
        return [recorder for recorder, _ in self.runs.values()]


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_receipts_idling_and_other_work_are_what_the_counters_show(seed, tmp_path):
    schedule = Schedule(seed, tmp_path)
    witness = schedule.play()
    shown_j = sum(schedule.drawn_j.values())
    receipts_j = sum(recorder.total_j for recorder in schedule.receipts)
    idle_j = witness.unattributed.get("energy_idle_j", 0.0)
    assert receipts_j + witness.total_j + idle_j == pytest.approx(shown_j, rel=1e-3)
    for recorder in schedule.receipts:
        series = recorder.series()
        assert sum(sum(c.joules) for c in series.components) == pytest.approx(recorder.total_j)
        assert recorder.clamped_j == 0 and min(min(c.joules) for c in series.components) >= 0
        estimated = [c for c in series.components if c.method is Method.ESTIMATED]
        assert bool(estimated) == any("estimated" in note for note in recorder.notes)
