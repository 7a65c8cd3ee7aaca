"""The ledger in memory, for simulations: they end with the program, and write more than a database can take.

The promises of the port but two: nothing outlives the program, and nothing but this code keeps rows from being changed.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from windward.domain.clock import utc
from windward.domain.energy import EnergyInterval
from windward.domain.series import Kind, Series
from windward.ledger import codec
from windward.ledger.port import Body, Decision, Receipt, check_interval

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Receipt:
    """A revision as it was written: `text` is the canonical body."""

    uid: str
    namespace: str
    name: str
    at: datetime
    settled: bool
    demo: bool
    text: str

    def as_revision(self, revision: int) -> Receipt:
        body = json.loads(self.text)
        digest = codec.sha256(self.text)
        return Receipt(self.uid, self.namespace, self.name, self.at, revision, self.settled, self.demo, body, digest)


@dataclass
class _Issues:
    """Issues of one zone and kind, in the order in which they were kept."""

    kept: list[tuple[str, Series]] = field(default_factory=list)
    reach: list[datetime] = field(default_factory=list)  # the latest end of all up to here: never falls

    def add(self, vintage: str, series: Series) -> None:
        self.kept.append((vintage, series))
        self.reach.append(max(series.end, self.reach[-1]) if self.reach else series.end)

    def over(self, start: datetime, end: datetime) -> list[tuple[str, Series]]:
        """Those that overlap [start, end)."""
        return [(v, s) for v, s in self.kept[bisect_right(self.reach, start) :] if s.end > start and s.start < end]


class MemoryLedger:
    """See the module; conforms to `Ledger`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vintages: dict[str, Series] = {}
        self._issues: dict[tuple[str, Kind], _Issues] = {}
        self._energy: dict[str, dict[tuple[object, ...], EnergyInterval]] = {}
        self._decisions: dict[str, dict[tuple[datetime, str, str], tuple[str, str]]] = {}
        self._receipts: dict[str, list[_Receipt]] = {}

    def close(self) -> None:
        """Nothing to let go of."""

    def archive(self, series: Series) -> str:
        vintage = codec.sha256(codec.encode(series))
        with self._lock:
            if vintage not in self._vintages:
                self._vintages[vintage] = series
                self._issues.setdefault((series.zone, series.kind), _Issues()).add(vintage, series)
        return vintage

    def issue(self, vintage: str) -> Series:
        return self._vintages[vintage]

    def issues(self, zone: str, kind: Kind, start: datetime, end: datetime) -> Sequence[Series]:
        with self._lock:
            overlapping = self._issues.get((zone, kind), _Issues()).over(utc(start), utc(end))
        return [s for _, s in sorted(overlapping, key=lambda f: (f[1].issued_at, f[1].fetched_at, f[0]))]

    def record_energy(self, rows: Sequence[EnergyInterval]) -> int:
        for row in rows:
            check_interval(row)
        new = 0
        with self._lock:
            for row in rows:
                rows_of_job = self._energy.setdefault(row.uid, {})
                key = (utc(row.start), row.attempt, row.pod_uid, row.component)
                new += key not in rows_of_job
                rows_of_job.setdefault(key, replace(row, start=utc(row.start), end=utc(row.end)))
        return new

    def energy(self, uid: str) -> Sequence[EnergyInterval]:
        with self._lock:
            rows_of_job = self._energy.get(uid, {})
            return [rows_of_job[key] for key in sorted(rows_of_job)]

    def record_decision(self, uid: str, namespace: str, name: str, at: datetime, kind: str, body: Body) -> None:
        text, at = codec.canonical(body), utc(at)
        with self._lock:
            self._decisions.setdefault(uid, {}).setdefault((at, kind, text), (namespace, name))

    def decisions(self, uid: str, newest: int | None = None) -> Sequence[Decision]:
        with self._lock:
            noted = list(self._decisions.get(uid, {}).items())
        if newest is not None:
            last = sorted(range(len(noted)), key=lambda i: (noted[i][0][0], i), reverse=True)[:newest]
            noted = [noted[i] for i in sorted(last)]
        return [Decision(uid, *where, at, kind, json.loads(text)) for (at, kind, text), where in noted]

    def record_receipt(
        self,
        uid: str,
        namespace: str,
        name: str,
        at: datetime,
        body: Body,
        *,
        settled: bool = False,
        demo: bool = False,
    ) -> int:
        written = _Receipt(uid, namespace, name, utc(at), settled, demo, codec.canonical(body))
        with self._lock:
            history = self._receipts.setdefault(uid, [])
            if not history or history[-1] != written:
                history.append(written)
            return len(history)

    def receipts(
        self,
        namespace: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        include_demo: bool = False,
    ) -> Sequence[Receipt]:
        after, before = utc(since) if since else _FIRST, utc(until) if until else _LAST
        with self._lock:
            newest = [(history[-1], len(history)) for history in self._receipts.values()]
        wanted = [
            (r, n)
            for r, n in newest
            if namespace in (None, r.namespace) and after <= r.at < before and (include_demo or not r.demo)
        ]
        return [r.as_revision(n) for r, n in sorted(wanted, key=lambda pair: (pair[0].at, pair[0].uid))]

    def receipt_history(self, uid: str) -> Sequence[Receipt]:
        with self._lock:
            return [r.as_revision(n) for n, r in enumerate(self._receipts.get(uid, []), 1)]
