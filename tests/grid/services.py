"""Every live source as a local server that speaks its wire format, delivers as badly as networks do, and misbehaves on
request. Shapes are those of the services' documentation and of recorded answers."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from windward.domain.clock import FixedClock
from windward.domain.series import Basis, Kind, Scope, Signal
from windward.grid.carbon_aware_sdk import CarbonAwareSdkProvider
from windward.grid.eia import EiaProvider
from windward.grid.electricity_maps import ElectricityMapsProvider
from windward.grid.energinet import EnerginetProvider
from windward.grid.energy_charts import EnergyChartsProvider
from windward.grid.neso import NesoProvider
from windward.grid.watttime import WattTimeProvider

SDK_KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
GONE = object()  # a field that is not there
ISSUED = "2026-11-21T09:15:00+00:00"


def iso(moment, form="%Y-%m-%dT%H:%M:%S.000Z"):
    return moment.strftime(form) if isinstance(moment, datetime) else moment


@dataclass
class Row:
    """One period before it is put into a wire format; `start` may be anything that is no time."""

    start: object
    value: object


def put(row: dict, name: str, value: object) -> dict:
    if value is not GONE:
        row[name] = value
    return row


# -- wire formats: rows -> the body of an answer --------------------------------------------------------------------


def neso_body(rows, zone):
    out = []
    for r in rows:
        stamp = iso(r.start, "%Y-%m-%dT%H:%MZ")
        end = iso(r.start + timedelta(minutes=30), "%Y-%m-%dT%H:%MZ") if isinstance(r.start, datetime) else None
        body = {"to": end, "intensity": {"forecast": r.value, "actual": r.value, "index": "low"}}
        out.append(put(body, "from", stamp))
    return {"data": out}


def maps_forecast(rows, zone):
    data = [put({"carbonIntensity": r.value}, "datetime", iso(r.start)) for r in rows]
    return {"zone": zone, "forecast": data, "updatedAt": ISSUED}


def maps_history(rows, zone):
    data = [
        put({"zone": zone, "carbonIntensity": r.value, "isEstimated": False}, "datetime", iso(r.start)) for r in rows
    ]
    return {"zone": zone, "data": data}


def watttime_body(rows, zone):
    data = [put({"value": r.value}, "point_time", iso(r.start, "%Y-%m-%dT%H:%M:%S+00:00")) for r in rows]
    meta = {
        "region": zone, "signal_type": "co2_moer", "units": "lbs_co2_per_mwh", "data_point_period_seconds": 300,
        "model": {"date": "2026-03-01"}, "warnings": [], "generated_at": ISSUED,
    }  # fmt: skip
    return {"data": data, "meta": meta}


def charts_body(rows, zone):
    seconds = [
        r.start.timestamp() if isinstance(r.start, datetime) else (None if r.start is GONE else r.start) for r in rows
    ]
    return {
        "unix_seconds": seconds,
        "co2eq": [None] * len(rows),
        "co2eq_forecast": [r.value for r in rows],
        "deprecated": False,
    }


def energinet_body(rows, zone):
    area = zone.removeprefix("DK-")
    records = [
        put({"PriceArea": area, "CO2Emission": r.value}, "Minutes5UTC", iso(r.start, "%Y-%m-%dT%H:%M:%S")) for r in rows
    ]
    return {"total": len(rows), "sort": "Minutes5UTC asc", "dataset": "CO2EmisProg", "records": records}


def eia_body(rows, zone):
    """Two fuels: half coal, half nothing that emits, so that a value in g/kWh becomes a generation of coal."""
    data = []
    for r in rows:
        end = iso(r.start + timedelta(hours=1), "%Y-%m-%dT%H") if isinstance(r.start, datetime) else r.start
        for fuel, share in (("COL", r.value), ("WAT", 1001)):
            row = {
                "respondent": zone.rsplit("-", 1)[-1],
                "fueltype": fuel,
                "value": share,
                "value-units": "megawatthours",
            }
            data.append(put(row, "period", end))
    return {"response": {"total": str(len(data)), "data": data}, "apiVersion": "2.1.8"}


def sdk_forecast(rows, zone):
    points = [
        put({"location": zone, "duration": 60, "value": r.value}, "timestamp", iso(r.start, "%Y-%m-%dT%H:%M:%S+00:00"))
        for r in rows
    ]
    return [{"generatedAt": ISSUED, "location": zone, "windowSize": 60, "forecastData": points}]


def sdk_history(rows, zone):
    return [
        put(
            {"location": zone, "rating": r.value, "duration": "01:00:00"},
            "time",
            iso(r.start, "%Y-%m-%dT%H:%M:%S+00:00"),
        )
        for r in rows
    ]


@dataclass(frozen=True)
class Service:
    """One source.

    Attributes:
        names_zone: its answers say for which zone they are.
        stamps: its times are text with a zone (an answer may lack it).
        forecasts: it publishes forecasts.
    """

    name: str
    zone: str
    step: timedelta
    make: Callable[..., object]
    forecast: Callable
    history: Callable
    answers_for: str = ""  # the zone as it is named on the wire
    names_zone: bool = True
    stamps: bool = True
    forecasts: bool = True
    marginal: bool = False
    computed: bool = False  # its values are weighed from generation

    @property
    def wire_zone(self):
        return self.answers_for or self.zone

    def rows(self, now, count=96):
        first = datetime.fromtimestamp(now.timestamp() // self.step.total_seconds() * self.step.total_seconds(), UTC)
        if not self.forecasts:
            first -= count * self.step
        return [Row(first + k * self.step, 200 + 7 * (k % 24)) for k in range(count)]


KEY = "secret-key"


def _neso(clock, url, total_s):
    return NesoProvider(clock, base_url=url, total_s=total_s)


def _maps(clock, url, total_s):
    return ElectricityMapsProvider(clock, KEY, base_url=url, total_s=total_s)


def _watttime(clock, url, total_s):
    return WattTimeProvider(clock, "me", KEY, base_url=url, total_s=total_s)


def _charts(clock, url, total_s):
    return EnergyChartsProvider(clock, base_url=url, total_s=total_s)


def _energinet(clock, url, total_s):
    return EnerginetProvider(clock, base_url=url, total_s=total_s)


def _eia(clock, url, total_s):
    return EiaProvider(clock, KEY, base_url=url, total_s=total_s)


def _sdk(clock, url, total_s):
    return CarbonAwareSdkProvider(clock, url, SDK_KIND, total_s=total_s)


HOUR, HALF, QUARTER, FIVE = (timedelta(minutes=m) for m in (60, 30, 15, 5))
SERVICES = [
    Service("neso", "GB", HALF, _neso, neso_body, neso_body, names_zone=False),
    Service("electricitymaps", "DE", HOUR, _maps, maps_forecast, maps_history),
    Service("watttime", "CAISO_NORTH", FIVE, _watttime, watttime_body, watttime_body, marginal=True),
    Service("energy-charts", "DE", QUARTER, _charts, charts_body, charts_body, names_zone=False, stamps=False),
    Service("energinet", "DK-DK1", FIVE, _energinet, energinet_body, energinet_body, stamps=False),
    Service("eia-930", "US-CAL-CISO", HOUR, _eia, eia_body, eia_body, forecasts=False, stamps=False, computed=True),
    Service("carbon-aware-sdk", "westeurope", HOUR, _sdk, sdk_forecast, sdk_history),
]


@dataclass
class Answer:
    """What the server says to the next request for data."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def ways(service: Service, path: str, answer: Answer) -> Answer:
    """Log-ins and lists of zones are answered well; everything else with `answer`."""
    if path.startswith("/login"):
        return Answer(json.dumps({"token": "t0ken"}).encode())
    if path.startswith("/v4/zones"):
        return Answer(json.dumps({service.wire_zone: {"zoneName": "x", "access": ["*"]}}).encode())
    return answer


DELIVERIES = ("at once", "after a while", "in pieces", "drop by drop", "cut short", "reset")
WHOLE = DELIVERIES[:3]


class Server:
    """An HTTP server that delivers one answer a connection in a given way."""

    def __init__(self, reply: Callable[[str], Answer], delivery: str = "at once") -> None:
        self.reply, self.delivery = reply, delivery
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += peer.recv(65536) or b"\r\n\r\n"
                lines = head.decode("latin-1").split("\r\n")
                path = lines[0].split(" ")[1] if " " in lines[0] else "/"
                self.paths.append(path)
                self.headers.append({k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines[1:] if x)})
                answer = self.reply(path)
                helps = path.startswith(("/login", "/v4/zones"))
                self._deliver(peer, answer, "at once" if helps else self.delivery)
            except OSError:
                pass  # the client hung up: that is its right

    def _deliver(self, peer: socket.socket, answer: Answer, delivery: str) -> None:
        extra = "".join(f"{k}: {v}\r\n" for k, v in answer.headers.items())
        size = f"Content-Type: application/json\r\nContent-Length: {len(answer.body)}\r\n"
        head = f"HTTP/1.1 {answer.status} X\r\n{size}{extra}Connection: close\r\n\r\n"
        data = head.encode() + answer.body
        if delivery == "after a while":
            time.sleep(0.03)
        if delivery == "reset":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif delivery == "cut short":
            peer.sendall(data[: len(head) + len(answer.body) // 2])
        elif delivery == "in pieces":
            for i in range(0, len(data), 60_000):
                peer.sendall(data[i : i + 60_000])
        elif delivery == "drop by drop":
            for i in range(len(head) + len(answer.body)):
                peer.sendall(data[i : i + 1])
                time.sleep(0.02)
        else:
            peer.sendall(data)


@contextmanager
def serving(service: Service, answer: Answer, now: datetime, delivery: str = "at once", total_s: float = 3.0):
    """A provider that talks to a server which answers so."""
    server = Server(lambda path: ways(service, path, answer), delivery)
    provider = service.make(FixedClock(now), server.url, total_s)
    try:
        yield provider, server
    finally:
        provider.close()
        server.close()


def query(path: str) -> dict[str, str]:
    return {k: v[0] for k, v in parse_qs(urlsplit(path).query).items()}
