"""A controller over a cluster, a book and carbon data that all live in memory, with a clock that stands until moved."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from service.fake_provider import FakeProvider
from service.served_cluster import Crash, ServedCluster

from windward.domain.clock import FixedClock
from windward.grid.cache import Grid
from windward.ledger import open_ledger
from windward.service.controller import Controller, Cycle

T0 = datetime(2026, 3, 2, 6, tzinfo=UTC)
CONTAINER = {"spec": {"containers": [{"name": "main", "image": "x", "command": ["true"]}]}}


def job_body(name: str = "night", **spec: Any) -> dict[str, Any]:
    """A GreenJob manifest; every part of the spec can be given or replaced, None removes it."""
    whole = {
        "completeWithin": "12h",
        "duration": "2h",
        "placement": {"regions": ["north", "south"], "home": "south"},
        "power": {"watts": 200},
        "template": CONTAINER,
    } | spec
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": name},
        "spec": {k: v for k, v in whole.items() if v is not None},
    }


def region_body(name: str, zone: str, **spec: Any) -> dict[str, Any]:
    """A GreenRegion manifest."""
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenRegion",
        "metadata": {"name": name},
        "spec": {"gridZone": zone, **spec},
    }


class World:
    """All of it; `tick` is what the operator's loop does each turn."""

    def __init__(
        self,
        provider: FakeProvider | None = None,
        regions: list[dict[str, Any]] | None = None,
        *,
        background: bool = False,
    ) -> None:
        self.background = background  # as the operator's; without it what a turn asks for is there in that turn
        self.clock = FixedClock(T0)
        self.cluster = ServedCluster(self.clock, ())
        self.provider = provider or FakeProvider()
        self.ledger = open_ledger("sqlite://")
        for body in regions or [region_body("north", "SE", pue="1.1"), region_body("south", "DE", pue="1.25")]:
            self.cluster.apply(body)
        self.restart()

    def restart(self) -> None:
        """A new operator process: memory gone, cluster and book kept."""
        if hasattr(self, "grid"):
            self.grid.close()
        self.grid = Grid(self.provider, self.ledger, dice=random.Random(1), background=self.background)
        self.controller = Controller(self.cluster, self.grid, self.ledger, self.clock)

    def tick(self) -> Cycle:
        """One turn. After a crash Kubernetes starts a new operator; after a stranger's write the watch rings."""
        strange = self.cluster.conflict_next
        try:
            self.grid.refresh(["DE", "SE"], self.clock.now())
            cycle = self.controller.cycle()
            return self.tick() if strange and not self.cluster.conflict_next else cycle
        except Crash:
            self.restart()
            return self.tick()

    def advance(self, span: timedelta) -> None:
        """Let time pass in turns, each when the controller asked for one, at least once an hour."""
        end = self.clock.now() + span
        cycle = self.tick()
        while self.clock.now() < end:
            due = min(end, self.clock.now() + timedelta(hours=1), *([cycle.wake_at] if cycle.wake_at else []))
            self.cluster.pass_time(max(timedelta(seconds=1), due - self.clock.now()))
            cycle = self.tick()

    def status(self, name: str = "night") -> dict[str, Any]:
        """A job's status as the API server holds it."""
        return self.cluster.status(f"default/{name}")

    def conditions(self, name: str = "night") -> dict[str, dict[str, Any]]:
        """Those of a job, by type."""
        return {c["type"]: c for c in self.status(name).get("conditions", ())}

    def close(self) -> None:
        self.grid.close()
        self.ledger.close()
