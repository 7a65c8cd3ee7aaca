"""Makes `operator/windward/grid/traces/2022.csv.gz` from a folder of hourly `<zone>.csv.gz` files.

    PYTHONPATH=operator python tests/grid/make_bundled_trace.py SOURCE_FOLDER

The source columns are `timestamp_utc,carbon_intensity_gco2_kwh`; `traces/NOTICE` says where they come from. Output: a
header, then one line a zone: `zone,start_utc,step_s,` and the values in hundredths of a gram per kWh as integers, each
as the difference from the one before (smaller when compressed, and exact). The same input gives the same bytes. What
was written is read back through `TraceProvider` and compared, value by value.
"""

from __future__ import annotations

import csv
import gzip
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from windward.grid.trace import _BUNDLED, TraceProvider

ZONES = ("DE", "GB", "FR", "PL", "ES", "SE-SE3", "US-CAL-CISO", "US-TEX-ERCO")
START = datetime(2022, 1, 1, tzinfo=UTC)


def read(source: Path, zone: str) -> list[float]:
    with gzip.open(source / f"{zone}.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [datetime.fromisoformat(row["timestamp_utc"]) for row in rows] == [
        START + timedelta(hours=k) for k in range(8760)
    ]
    return [float(row["carbon_intensity_gco2_kwh"]) for row in rows]


def line(zone: str, values: list[float]) -> str:
    hundredths = [round(value * 100) for value in values]
    deltas = [b - a for a, b in zip([0, *hundredths], hundredths, strict=False)]
    return f"{zone},{START:%Y-%m-%dT%H:%M:%SZ},3600," + ",".join(map(str, deltas)) + "\n"


def main(source: Path) -> None:
    zones = {zone: read(source, zone) for zone in ZONES}
    text = "zone,start_utc,step_s,deltas_0.01gco2_kwh\n" + "".join(line(zone, v) for zone, v in zones.items())
    with _BUNDLED.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(text.encode("ascii"))
    for zone, values in zones.items():
        stored = TraceProvider.bundled().history(zone, START, START + timedelta(hours=8760))
        assert stored.intensity_g_per_kwh.tolist() == values, zone
    print(f"{_BUNDLED}: {_BUNDLED.stat().st_size} bytes, equal to the source")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
