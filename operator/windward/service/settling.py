"""Accounts that were left open on one machine: ended jobs are weighed anew until their intensities stand.

On a cluster the operator does it; here nobody looks once a command has ended, so the next ones do.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windward.cluster.local import LocalCluster
from windward.cluster.locks import Locks
from windward.cluster.store import Store, is_rehearsal
from windward.domain.clock import Clock, FixedClock
from windward.domain.observed import Observed
from windward.grid.cache import Grid
from windward.grid.port import Provider, ProviderError
from windward.ledger.opening import open_ledger
from windward.ledger.port import Ledger
from windward.lifecycle.accounting import Account
from windward.lifecycle.status import Context, status_of
from windward.service.accountant import Accountant
from windward.service.clock import SystemClock
from windward.service.submissions import SOURCE
from windward.service.sync_regions import regions_of

log = logging.getLogger(__name__)
PAST = timedelta(days=3)
EVERY = timedelta(minutes=10)  # commands that only look ask a source no more often than this

Sources = Callable[[str], Provider | None]


@dataclass(frozen=True, slots=True)
class Weighed:
    """What became of one open account.

    Attributes:
        key: namespace and name of the job.
        account: as weighed now; None where it could not be.
        why: what keeps it open; '' where it is final now.
    """

    key: str
    account: Account | None
    why: str = ""

    @property
    def settled(self) -> bool:
        return not self.why


def source_note(name: str, trace: Path | None) -> str:
    """Returns the annotation that tells a later command where a job's intensities came from."""
    return json.dumps({"name": name, "trace": str(trace.resolve()) if trace is not None else None})


def open_accounts(home: Path) -> list[str]:
    """Returns uids of the ended jobs of this machine whose receipts are not final. Reads one file, nothing else."""
    path = home / "local.db"
    if not path.exists():
        return []
    store = Store(path)
    try:
        return [str(b["metadata"]["uid"]) for b in store.all("GreenJob") if _is_open(b)]
    finally:
        store.close()


def settle(home: Path, sources: Sources, uids: list[str] | None = None) -> list[Weighed]:
    """Weigh the open accounts anew and write what is known now into ledger and status. Asks the jobs' sources.

    Args:
        sources: the provider of a job, by its annotation ('' where none was chosen); None: there is none to ask.
        uids: of those to be weighed; None: all.

    Raises:
        LedgerError: the ledger cannot be read or written.
    """
    wanted = open_accounts(home) if uids is None else uids
    if not wanted:
        return []
    store, ledger = Store(home / "local.db"), open_ledger(f"sqlite:///{home / 'book.db'}")
    try:
        bodies = [b for b in store.all("GreenJob") if b["metadata"]["uid"] in wanted]
        return [_weighed(home, store, ledger, body, sources) for body in bodies]
    finally:
        store.close()
        ledger.close()


def settle_in_passing(home: Path, sources: Sources, patience_s: float = 1.0) -> list[Weighed]:
    """`settle` for a command that only looks: at most every ten minutes, and no longer than `patience_s`.

    Where a source does not answer in time the asking is left to itself, and a later command tries again.
    """
    stamp = home / "settled"
    try:
        looked_at = stamp.stat().st_mtime
    except OSError:
        looked_at = 0.0
    if not 0 <= SystemClock().now().timestamp() - looked_at < EVERY.total_seconds() and (uids := open_accounts(home)):
        stamp.touch()
        return _bounded(lambda: settle(home, sources, uids), patience_s)
    return []


def _bounded(work: Callable[[], list[Weighed]], patience_s: float) -> list[Weighed]:
    """What `work` gives within the time; nothing where it takes longer or fails: who only looks is not disturbed."""
    out: list[Weighed] = []

    def run() -> None:
        try:
            out.extend(work())
        except Exception:  # whatever it is, another command tries again, and `settle` says it
            log.info("accounts could not be settled in passing", exc_info=True)

    thread = threading.Thread(target=run, name="settling", daemon=True)
    thread.start()
    thread.join(patience_s)
    return [] if thread.is_alive() else out


def _is_open(body: Mapping[str, Any]) -> bool:
    status = body.get("status") or {}
    accounting = status.get("accounting") or {}
    return bool(status.get("finishedAt") and accounting.get("energyJoules") and not accounting.get("settled"))


def _weighed(home: Path, store: Store, ledger: Ledger, body: Mapping[str, Any], sources: Sources) -> Weighed:
    meta = body["metadata"]
    key, uid = f"{meta['namespace']}/{meta['name']}", str(meta["uid"])
    locks = Locks(home / "locks")
    try:
        if not locks.take(uid):
            return Weighed(key, None, "another windward has it in hand")
        provider = sources((meta.get("annotations") or {}).get(SOURCE, ""))
        if provider is None:
            return Weighed(key, None, "no source of carbon data was chosen for it")
        return _weigh(LocalCluster(store, home, (clock := _clock(store, uid)), SystemClock(), 1.0, frozenset({uid}),
                                   locks), clock, ledger, provider, key)  # fmt: skip
    except (ProviderError, ValueError) as e:
        return Weighed(key, None, f"its source cannot be asked: {e}")
    finally:
        locks.release()


def _weigh(cluster: LocalCluster, clock: Clock, ledger: Ledger, provider: Provider, key: str) -> Weighed:
    snapshot = cluster.snapshot()
    if not snapshot.jobs:
        return Weighed(key, None, "it cannot be read any more")
    (observed,), now = snapshot.jobs, clock.now()
    finished_at = observed.job.status.finished_at
    if finished_at is None:
        return Weighed(key, None, "it has not ended")
    grid = Grid(provider, ledger, past=PAST, background=False)
    try:
        accountant, regions = Accountant(ledger, grid, clock), regions_of(snapshot.regions)
        accountant.record(observed, regions, now)
        made = accountant.settle(observed, regions, finished_at)
    finally:
        grid.close()
    account, receipt, _ = made
    if account is None:
        return Weighed(key, None, "its hours are not known yet")
    context = Context({}, account, receipt, observed.job.status.accounting.demo)
    status = status_of(observed, None, [], now, context)
    if status != observed.job.status:
        cluster.write_status(observed.job, status, [])
    return Weighed(key, account, "" if account.settled else _open_for(observed, account, provider, now))


def _open_for(observed: Observed, account: Account, provider: Provider, now: datetime) -> str:
    """Why an account that was weighed is not final yet."""
    if account.emissions_g is None:
        return "the source does not know its hours"
    ends = [p.row.end for p in account.intervals]
    ends += [account.baseline.end] if account.baseline is not None else []
    final = max(ends, default=now) + provider.revised_for
    return (
        f"its hours may be revised until {final:%Y-%m-%d %H:%MZ}" if final > now else "its hours are not measured yet"
    )


def _clock(store: Store, uid: str) -> Clock:
    """The time that a job was driven by: of a rehearsal it stands still once nobody drives it."""
    saved = store.clock(uid)
    if saved is None:
        return SystemClock()
    return FixedClock(saved[0]) if is_rehearsal(*saved) else SystemClock()
