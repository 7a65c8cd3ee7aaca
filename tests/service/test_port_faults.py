"""Whatever a port method raises for one object, all others are served in the same cycle: every method, one by one."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from datetime import timedelta

import pytest
from pydantic import BaseModel
from service.world import CONTAINER, World, job_body, region_body

from windward.cluster.port import Cluster
from windward.grid.port import Provider
from windward.ledger.port import Ledger

HOUR = timedelta(hours=1)
NOT_OF_ONE_OBJECT = {
    "Cluster.snapshot": "reads everything at once; the loop tries again at the next resync (test_loop)",
    "Ledger.close": "at the end of the process",
    "Ledger.issue": "the command line alone reads one issue",
    "Ledger.issues": "the command line alone reads issues",
    "Ledger.receipts": "the command line alone reads receipts",
    "Ledger.receipt_history": "the command line alone reads receipts",
    "Provider.zones": "the command line alone asks for zones",
}
PORTS = [
    f"{port.__name__}.{name}"
    for port in (Cluster, Ledger, Provider)
    for name, member in inspect.getmembers(port, inspect.isfunction)
    if not name.startswith("_")
]
METHODS = [name for name in PORTS if name not in NOT_OF_ONE_OBJECT]


class Strange(Exception):
    """Nobody expects it."""


def names_of(value):
    """All texts in an argument: names, keys, uids, zones."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from names_of(key)
            yield from names_of(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from names_of(one)
    elif isinstance(value, BaseModel):
        yield from names_of(value.model_dump())
    elif is_dataclass(value):
        for field in fields(value):
            yield from names_of(getattr(value, field.name, None))


class Planted:
    """A port of which one method raises for whatever belongs to the odd objects."""

    def __init__(self, port, name, odd):
        self._port, self._name, self._odd = port, name, odd
        self.raised = 0

    def __getattr__(self, name):
        real = getattr(self._port, name)
        if name != self._name:
            return real

        def method(*args, **kwargs):
            if any(odd in text for text in names_of((args, kwargs)) for odd in self._odd):
                self.raised += 1
                raise Strange(f"{name} fails for this one")
            return real(*args, **kwargs)

        return method


@pytest.fixture
def world(quiet):
    made = World(regions=[region_body("north", "SE"), region_body("south", "DE"), region_body("odd", "XX")])
    yield made
    made.close()


def cron_body(name):
    spec = {
        "schedule": "0 * * * *", "timeZone": "UTC", "window": "3h", "successfulJobsHistoryLimit": 1,
        "jobTemplate": {"spec": {
            "duration": "10m", "placement": {"regions": ["north"]}, "template": CONTAINER,
        }},
    }  # fmt: skip
    return {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenCronJob", "metadata": {"name": name}, "spec": spec}


def submit_all(world):
    """An odd object of each kind and state that leads to some port method, beside good ones."""
    pausable = {"interruption": {"policy": "Checkpoint"}, "placement": {"regions": ["north", "odd"], "home": "odd"}}
    odd = [
        world.cluster.apply(job_body("odd-job", ttlSecondsAfterFinished=60, **pausable)),
        world.cluster.apply(job_body("odd-held", **pausable)),
        world.cluster.apply(job_body("odd-invalid", duration="never")),
    ]
    world.cluster.apply(cron_body("odd-cron"))
    world.cluster.released = {"default/odd-held"}  # as what a queue may start is held until its window
    world.cluster.apply(job_body("good"))
    world.cluster.apply(cron_body("good-cron"))
    return [*odd, "odd", "XX"]


@pytest.mark.parametrize("method", METHODS)
def test_an_exception_of_any_port_method_stays_with_its_object(world, method):
    port, _, name = method.partition(".")
    odd = submit_all(world)
    if name == "decisions":  # asked for a region that is gone, of a job that ran there
        odd = regions_noted(world)
    planted = plant(world, port, name, odd)
    served = 0
    for n in range(16 * 2):
        if n == 3:
            world.cluster.edit("default/odd-held", suspend=True)  # a run is stopped
        before = planted.raised
        world.grid.refresh(["DE", "SE", "XX"], world.clock.now())
        cycle = world.controller.cycle()
        if planted.raised > before and "default/good" in {o.key for o in cycle.snapshot.jobs}:
            assert "default/good" in cycle.actions, "the good job was passed over"
            served += 1
        world.cluster.pass_time(timedelta(minutes=30))
    assert served, f"{method} was never asked for an odd object: the test proves nothing"
    assert world.status("good")["summary"]["state"] == "Complete"
    assert any(key.startswith("default/good-cron-") for key in world.cluster.jobs)


def regions_noted(world):
    """Runs in the odd region, which is then deleted: its facts are read from the ledger by another operator."""
    from windward.service.accountant import _region_uid

    world.cluster.apply(job_body("odd-there", placement={"regions": ["odd"]}, completeWithin="2h"))
    world.tick()
    world.cluster.pass_time(HOUR)
    world.tick()
    world.cluster.delete_region("odd")
    world.restart()
    return [_region_uid("odd")]


def plant(world, port, name, odd):
    """Another operator process, one of whose ports has the fault."""
    planted = Planted(getattr(world, port.lower()), name, odd)
    setattr(world, port.lower(), planted)
    world.restart()
    return planted
