"""One suite over all meters: the promise of the `Meter` port."""

import math

import pytest
from worker.energy.fakes import FakeClock, FakeMachine, FakeNvml, FakeRapl

from windward_api.contract import EnergyComponent, Method
from windward_worker.control import MeterError
from windward_worker.energy import CpuModelMeter, DeclaredMeter, NvmlMeter, RaplMeter


class Bench:
    """A meter on a fake sensor: `use` lets 2 s pass in which it draws 50 J."""

    def __init__(self, meter, clock, draw, fail=None):
        self.meter, self.clock, self._draw, self.fail = meter, clock, draw, fail

    def use(self):
        self.clock.pass_s(2.0)
        self._draw()


def nvml(tmp_path):
    clock, fake = FakeClock(), FakeNvml([7_000_000, 9])

    def draw():
        fake.counters_mj = [fake.counters_mj[0] + 30_000, fake.counters_mj[1] + 20_000]

    return Bench(NvmlMeter(fake, environ={}, monotonic=clock), clock, draw, lambda: setattr(fake, "broken", True))


def rapl(component, zones):
    def make(tmp_path):
        clock, fake = FakeClock(), FakeRapl(tmp_path, packages=2)

        def draw():
            for zone in zones:
                fake.add(zone, 25_000_000)

        def fail():
            fake.set(zones[0], "")

        return Bench(
            RaplMeter(component, root=tmp_path, use=FakeMachine(clock=clock).alone(), monotonic=clock),
            clock,
            draw,
            fail,
        )

    return make


def cpu_model(tmp_path):
    clock, used_s = FakeClock(), [100.0]

    def draw():
        used_s[0] += 50 / 3.5

    return Bench(CpuModelMeter(cpus=4, cpu_s=lambda: used_s[0], monotonic=clock), clock, draw)


def declared(tmp_path):
    clock = FakeClock()
    return Bench(DeclaredMeter(25.0, monotonic=clock), clock, lambda: None)


METERS = {
    "nvml": nvml,
    "rapl cpu": rapl("cpu", ["intel-rapl:0", "intel-rapl:1"]),
    "rapl dram": rapl("dram", ["intel-rapl:0:1", "intel-rapl:1:1"]),
    "cpu model": cpu_model,
    "declared": declared,
}


@pytest.fixture(params=METERS)
def bench(request, tmp_path):
    return METERS[request.param](tmp_path)


def test_it_begins_at_zero_and_counts_what_was_drawn(bench):
    assert bench.meter.read_j() == pytest.approx(0, abs=1e-9)
    for times in range(1, 4):
        bench.use()
        assert bench.meter.read_j() == pytest.approx(50 * times)


def test_reading_twice_adds_nothing(bench):
    bench.use()
    assert bench.meter.read_j() == bench.meter.read_j()


def test_it_names_itself_as_the_contract_wants(bench):
    meter = bench.meter
    component = EnergyComponent(name=meter.component, method=meter.method, source=meter.source, joules=(1,))
    assert component.name in ("cpu", "gpu", "dram", "other")
    modelled = meter.source.startswith("model:") or " x cpu-time" in meter.source
    assert meter.method is (
        Method.ESTIMATED if "declared" in meter.source else Method.MODELLED if modelled else Method.MEASURED
    )
    assert 0 < meter.max_w < math.inf


@pytest.mark.parametrize("name", [n for n in METERS if n.startswith(("nvml", "rapl"))])
def test_a_sensor_that_fails_raises(name, tmp_path):
    bench = METERS[name](tmp_path)
    bench.use()
    assert bench.meter.read_j() == pytest.approx(50)
    bench.fail()
    with pytest.raises(MeterError):
        bench.meter.read_j()


def test_it_can_be_closed_twice(bench):
    bench.meter.close()
    bench.meter.close()
