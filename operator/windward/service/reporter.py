"""Writes statuses of regions, of unreadable objects, and of jobs for which a step failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Protocol

from windward.cluster import Cluster, Snapshot
from windward.domain.forecast import Forecast
from windward.lifecycle.reconcile import Reporting
from windward.service.guard import Guard
from windward.service.invalid_objects import report_fault, report_invalid
from windward.service.standing_plan import version_of
from windward.service.sync_regions import running_by_region, sync_region


class Reporter(Protocol):
    """Where a controller reports.

    Attributes:
        reporting: when statuses of jobs are written.
    """

    reporting: Reporting

    def report(self, snapshot: Snapshot, forecasts: Mapping[str, Forecast], guard: Guard, now: datetime) -> None:
        """Writes what changed, each object in its own guarded step."""


class ClusterReporter:
    """Reports into the objects' own statuses."""

    reporting = Reporting.EACH_CHANGE

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def report(self, snapshot: Snapshot, forecasts: Mapping[str, Forecast], guard: Guard, now: datetime) -> None:
        running = running_by_region(snapshot.jobs)
        for region in snapshot.regions:
            key, version = f"GreenRegion {region.metadata.name}", region.metadata.generation
            guard.run("report", key, version, now, partial(sync_region, self.cluster, region, forecasts, running, now))
        for bad in snapshot.bad:
            key = bad.key if bad.kind == "GreenJob" else f"{bad.kind} {bad.key}"
            guard.run("report", key, bad.generation, now, partial(report_invalid, self.cluster, bad, now))
        for o in snapshot.jobs:
            fault = guard.fault("reconcile", o.key)
            if fault is not None and not fault.expected:
                guard.run("report", o.key, version_of(o), now, partial(report_fault, self.cluster, o, fault, now))


class DiscardingReporter:
    """Reports only the ends of jobs, for simulations, in which no statuses are read."""

    reporting = Reporting.AT_END

    def report(self, snapshot: Snapshot, forecasts: Mapping[str, Forecast], guard: Guard, now: datetime) -> None:
        """Does nothing."""
