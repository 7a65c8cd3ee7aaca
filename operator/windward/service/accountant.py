"""The accountant: records the energy of ended runs in the ledger, once, and computes accounts until these are final."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from windward.domain.clock import Clock
from windward.domain.energy import EnergyInterval
from windward.domain.fleet import Region
from windward.domain.forecast import Forecast
from windward.domain.observed import Observed
from windward.grid.cache import Grid
from windward.grid.days import Actuals
from windward.ledger import codec
from windward.ledger.port import Ledger
from windward.lifecycle.accounting import Account, account, energy_of_run
from windward.lifecycle.booking import has_unbooked_energy, is_final
from windward.lifecycle.receipt import receipt_of
from windward.lifecycle.work import home_of

log = logging.getLogger(__name__)
REGION_FACTS = "RegionFacts"


class Settlement(NamedTuple):
    """The result of settling an ended job.

    Attributes:
        account: None if no receipt was written: no energy is recorded, or only a final receipt is wanted.
        receipt: the receipt's hash; empty without one.
        pending: whether measured hours were requested and have not arrived: another attempt soon may be final.
    """

    account: Account | None = None
    receipt: str = ""
    pending: bool = False


@dataclass
class _Page:
    """The cache of one job.

    Attributes:
        rows: its energy in the ledger; None: not read yet.
        account, weighed_with: its account, and the inputs of that account.
    """

    rows: Sequence[EnergyInterval] | None = None
    account: Account | None = None
    weighed_with: tuple[object, ...] = ()


@dataclass
class Accountant:
    """See the module."""

    ledger: Ledger
    grid: Grid
    clock: Clock
    simulated: bool = False
    _pages: dict[str, _Page] = field(default_factory=dict)
    _regions: dict[str, Region] = field(default_factory=dict)  # as the ledger knows them

    def keep_regions(self, regions: Mapping[str, Region], now: datetime) -> None:
        """Records zone and PUE of each region that is new or changed, for runs that outlive their region.

        Raises:
            LedgerError: the ledger cannot be written.
        """
        for name, region in regions.items():
            if self._regions.get(name) == region:
                continue
            body = {"zone": region.zone, "pue": region.pue}
            self.ledger.record_decision(_region_uid(name), "", name, now, REGION_FACTS, body)
            self._regions[name] = region

    def _with_deleted(self, observed: Observed, regions: Mapping[str, Region]) -> Mapping[str, Region]:
        """The regions, plus deleted ones that the job refers to, as last recorded in the ledger."""
        names = {r.region for r in observed.runs if r.started_at is not None} | {home_of(observed.job.spec)}
        gone = {n: region for n in names - regions.keys() if (region := self._noted(n)) is not None}
        return {**regions, **gone} if gone else regions

    def _noted(self, name: str) -> Region | None:
        """A region as last recorded in the ledger; read once."""
        if name not in self._regions:
            noted = [d for d in self.ledger.decisions(_region_uid(name)) if d.kind == REGION_FACTS]
            if not noted:
                return None
            body = noted[-1].body
            self._regions[name] = Region(name, str(body["zone"]), float(body["pue"]))
            log.warning("GreenRegion %s was deleted: its runs count by its zone and PUE of then", name)
        return self._regions[name]

    def keep(self, jobs: Iterable[Observed]) -> None:
        """Drops the caches of all other jobs."""
        self._pages = {o.uid: self._pages.get(o.uid) or _Page() for o in jobs}

    def weighed(
        self, observed: Observed, regions: Mapping[str, Region], forecasts: Mapping[str, Forecast], now: datetime
    ) -> Account | None:
        """Records the energy of ended runs and returns the account of the job; None if it is final or has no energy.

        Raises:
            LedgerError: the ledger cannot be read or written; nothing was recorded in part.
        """
        self.record(observed, regions, now)
        page = self._pages.get(observed.uid)
        if page is None or _is_closed(observed):
            return None
        return self._weigh(observed, page, self._with_deleted(observed, regions), forecasts)

    def record(self, observed: Observed, regions: Mapping[str, Region], now: datetime) -> None:
        """Records the energy of runs that ended in the ledger; what is recorded already stays as it is.

        Raises:
            LedgerError: as `weighed`.
        """
        if not observed.runs or _is_closed(observed):
            return
        page = self._pages.setdefault(observed.uid, _Page())
        if not page.rows and all(r.phase.live for r in observed.runs) and len(observed.runs) == observed.attempt:
            return  # nothing ended yet
        if page.rows is None:
            page.rows = self.ledger.energy(observed.uid)
        # What is in the ledger stays: of a run whose pod is gone less is known now than when it was booked.
        booked = {r.attempt for r in page.rows}
        regions = self._with_deleted(observed, regions)
        for run in observed.runs:
            if run.attempt in booked or run.started_at is None or not is_final(run, now):
                continue
            region = regions.get(run.region)
            if region is None:
                continue
            if energy := energy_of_run(observed, run, region, now):
                page.rows = None
                self.ledger.record_energy(energy)
                page.rows = self.ledger.energy(observed.uid)

    @staticmethod
    def _weigh(
        observed: Observed, page: _Page, regions: Mapping[str, Region], forecasts: Mapping[str, Forecast]
    ) -> Account | None:
        """The account of the recorded energy; cached until there is more of it or the intensities change."""
        if not page.rows:
            return None
        with_ = (len(page.rows), regions, tuple((z, f.vintage) for z, f in sorted(forecasts.items())))
        if page.account is None or page.weighed_with != with_:
            series = {z: f.series for z, f in forecasts.items() if f.series is not None}
            page.account, page.weighed_with = account(observed, page.rows, series, regions), with_
        return page.account

    def settle(
        self, observed: Observed, regions: Mapping[str, Region], at: datetime, *, provisional: bool = True
    ) -> Settlement:
        """Computes the account of an ended job with the best known intensities and records its receipt.

        Called again until the provider no longer revises any of them: a revised intensity gives the next revision of
        the receipt, and the ledger keeps the earlier ones. Never waits for data: the first receipt may rest on
        forecasts, and remains if the object is deleted next.

        Args:
            provisional: whether to record a receipt that may still be revised.
        """
        page = self._pages.get(observed.uid, _Page())
        rows = page.rows if page.rows is not None else self.ledger.energy(observed.uid)
        submitted = observed.job.metadata.creation_timestamp
        if not rows or submitted is None:
            return Settlement()
        regions = self._with_deleted(observed, regions)
        end = max(at, max(r.end for r in rows))
        zones = {r.zone for r in rows} | _home_zone(observed, regions)
        now = self.clock.now()
        known = {zone: self.grid.measured(zone, submitted, end + timedelta(seconds=1), now) for zone in sorted(zones)}
        pending = any(k.pending for k in known.values())
        intensities = {zone: k.series for zone, k in known.items() if k.series is not None}
        weighed = account(observed, rows, intensities, regions, self._settled_until(known.values()))
        if pending or has_unbooked_energy(observed, rows):
            weighed = replace(weighed, settled=False)  # a receipt that is final would seal what is missing away
        if not (weighed.settled or provisional):
            return Settlement(pending=pending)
        body = receipt_of(observed, weighed, intensities, regions, at, simulated=self.simulated)
        meta = observed.job.metadata
        unreal = "demo" in body or "simulated" in body
        self.ledger.record_receipt(meta.uid, meta.namespace, meta.name, at, body, settled=weighed.settled, demo=unreal)
        return Settlement(weighed, codec.sha256(codec.canonical(body)), pending)

    def _settled_until(self, known: Iterable[Actuals]) -> datetime | None:
        """See `account`. A provider that never revises has settled whatever it calls measured, also the step of a meter
        that ends a moment from now."""
        revised_for = self.grid.provider.revised_for
        return min((k.as_of for k in known), default=self.clock.now()) - revised_for if revised_for else None


def _region_uid(name: str) -> str:
    """The key of a region's facts in the ledger, at most 64 characters."""
    return f"region/{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _is_closed(observed: Observed) -> bool:
    """Whether its account is final."""
    return observed.ended and observed.job.status.accounting.settled


def _home_zone(observed: Observed, regions: Mapping[str, Region]) -> set[str]:
    home = home_of(observed.job.spec)
    return {regions[home].zone} if home in regions else set()
