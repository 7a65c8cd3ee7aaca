"""The archive of a year of twenty zones stays small: bytes of an hour of one zone, not seconds."""

from datetime import UTC, datetime, timedelta

import numpy as np

from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.ledger import open_ledger

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
HOUR = timedelta(hours=1)
LIMIT_BYTES = 1e9 / (20 * 8760)  # a gigabyte for twenty zones, hourly


def test_an_hour_of_a_zone_fits_with_the_issue_and_with_what_was_planned_on(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/book.db")
    before, hours, dice = (tmp_path / "book.db").stat().st_size, 200, np.random.default_rng(0)
    for h in range(hours):
        now = datetime(2026, 1, 1, tzinfo=UTC) + h * HOUR
        ahead = np.round(np.abs(300 + 40 * np.cumsum(dice.normal(0, 0.3, 168))), 2)  # worst case: no two hours alike
        for values, source in ((ahead[:72], "p"), (ahead, "nowcast:p+own:ridge+analog:p")):
            quality = [Quality.FORECAST] * min(72, len(values)) + [Quality.ESTIMATED] * max(0, len(values) - 72)
            ledger.archive(
                Series.regular(
                    "DE", KIND, now, HOUR, values, quality=quality, source=source, issued_at=now, attribution="x"
                )
            )
    ledger.close()
    used = sum(f.stat().st_size for f in tmp_path.iterdir()) - before
    assert 500 < used / hours < LIMIT_BYTES
    print(f"{used / hours:.0f} bytes an hour and zone, {used / hours * 20 * 8760 / 1e6:.0f} MB a year of 20 zones")
