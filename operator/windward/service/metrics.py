"""Prometheus metrics of the operator. Units are base units, except grams per kWh."""

from __future__ import annotations

from collections import Counter as Tally
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from windward import __version__
from windward.domain.forecast import band_at
from windward.domain.observed import Finish
from windward.grid.cache import Grid
from windward.service.controller import Cycle


class Metrics:
    """Metrics in a registry of their own, so that several operators can share a process, as in tests."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        self.intensity = Gauge(
            "windward_grid_carbon_intensity_grams_per_kwh", "Intensity now.", ["zone", "provider", "signal"], registry=r
        )
        self.forecast = Gauge(
            "windward_forecast_carbon_intensity_grams_per_kwh",
            "Intensity that is forecast for so much later.",
            ["zone", "provider", "signal", "lead"],
            registry=r,
        )
        self.age = Gauge("windward_forecast_age_seconds", "Age of the newest issue.", ["zone", "provider"], registry=r)
        self.error = Gauge(
            "windward_forecast_abs_error_grams_per_kwh",
            "Mean absolute error of the forecasts made so much earlier, over the last week.",
            ["zone", "provider", "lead"],
            registry=r,
        )
        self.band = Gauge(
            "windward_forecast_band_grams_per_kwh",
            "Quantile of the intensity so much later, where it is our own forecast.",
            ["zone", "provider", "lead", "quantile"],
            registry=r,
        )
        self.jobs = Gauge("windward_jobs", "GreenJobs by state.", ["namespace", "state"], registry=r)
        self.energy = Counter(
            "windward_job_energy_joules", "Energy of ended jobs, before PUE.", ["namespace", "method"], registry=r
        )
        self.emissions = Counter(
            "windward_job_emissions_grams", "Emissions of ended jobs.", ["namespace", "method"], registry=r
        )
        self.avoided = Gauge(
            "windward_emissions_avoided_grams",
            "Grams that ended jobs saved against running at once at home; may be negative.",
            ["namespace", "settled"],
            registry=r,
        )
        self.misses = Counter("windward_deadline_misses", "Jobs that ended after their finish-by time.", registry=r)
        self.plan_s = Histogram("windward_plan_duration_seconds", "One cycle of the controller.", registry=r)
        self.gap = Gauge(
            "windward_plan_gap_ratio", "Share by which the plan may at worst be above the best one.", registry=r
        )
        self.provider = Gauge(
            "windward_provider_requests_total",
            "Refreshes by outcome since the start.",
            ["provider", "code"],
            registry=r,
        )
        self.errors = Counter("windward_reconcile_errors", "Turns that failed for a job.", ["reason"], registry=r)
        self.last = Gauge("windward_last_reconcile_timestamp_seconds", "End of the last good cycle.", registry=r)
        Gauge("windward_build_info", "Version.", ["version"], registry=r).labels(__version__).set(1)

    def cycled(self, cycle: Cycle, grid: Grid, took_s: float, ended_at: datetime) -> None:
        """Updates all metrics from one cycle."""
        self.plan_s.observe(took_s)
        self.last.set(ended_at.timestamp())
        if cycle.plan.certificate is not None:
            self.gap.set(max(0.0, cycle.plan.certificate.gap))
        self._forecasts(cycle)
        for name, n in grid.counters().items():
            self.provider.labels(grid.provider.name, name).set(n)
        self.jobs.clear()
        states = Tally((o.job.metadata.namespace, o.job.status.summary.state) for o in cycle.snapshot.jobs)
        for (namespace, state), n in states.items():
            self.jobs.labels(namespace, state or "Pending").set(n)
        for message in cycle.errors.values():
            self.errors.labels(message.split(":")[0][:40]).inc()
        self._ended(cycle)

    def _forecasts(self, cycle: Cycle) -> None:
        for zone, f in cycle.forecasts.items():
            if f.series is None:
                continue
            names = (zone, f.series.source, str(f.series.kind.signal).lower())
            for lead, hours in (("", 0), ("1h", 1), ("6h", 6), ("24h", 24)):
                index = int(cycle.at.timestamp()) + 3600 * hours
                value = f.series.at(datetime.fromtimestamp(index, cycle.at.tzinfo))
                if value is not None:
                    (self.forecast.labels(*names, lead) if lead else self.intensity.labels(*names)).set(value)
            if f.error_g_per_kwh is not None:
                self.error.labels(zone, f.series.source, "24h").set(f.error_g_per_kwh)
            for hours in (6, 24, 72):
                span = band_at(f, cycle.at + timedelta(hours=hours))
                for quantile, value in zip(("0.1", "0.9"), span or (), strict=False):
                    self.band.labels(zone, f.series.source, f"{hours}h", quantile).set(value)
            age = f.age(cycle.at)
            if age is not None:
                self.age.labels(zone, f.series.source).set(max(0.0, age.total_seconds()))

    def _ended(self, cycle: Cycle) -> None:
        """Jobs that ended in this cycle; demonstration data counts in no total."""
        for o in cycle.snapshot.jobs:
            account = cycle.accounts.get(o.key)
            if not any(isinstance(a, Finish) for a in cycle.actions.get(o.key, ())):
                continue
            if cycle.at > o.finish_by:
                self.misses.inc()
            if account is None or any(f.series is not None and f.series.demo for f in cycle.forecasts.values()):
                continue
            namespace = o.job.metadata.namespace
            self.energy.labels(namespace, account.method).inc(account.energy_j)
            if account.emissions_g is not None:
                self.emissions.labels(namespace, account.method).inc(account.emissions_g)
            if account.saved_g is not None:
                self.avoided.labels(namespace, str(account.settled).lower()).inc(account.saved_g)
