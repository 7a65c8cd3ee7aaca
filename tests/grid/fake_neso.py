"""A stand-in for NESO's service, over HTTP, in the shapes that were recorded from it; and ways to misbehave."""

import json
import re
import socket
import struct
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from werkzeug import Request, Response

HALF = timedelta(minutes=30)
_PATH = re.compile(r"/intensity/(?P<start>[^/]+)/(?P<end>[^/]+)$")


def stamp(moment):
    return moment.strftime("%Y-%m-%dT%H:%MZ")


def value(moment):
    """A shape with a period of a day, in whole g/kWh as the service gives them."""
    minute = (moment - datetime(2020, 1, 1, tzinfo=UTC)) // timedelta(minutes=1) % 1440
    return 120 + round(80 * abs(minute - 720) / 720)


def row(start, *, actual, forecast=None, length=HALF):
    guess = value(start) + 7 if forecast is None else forecast
    intensity = {"forecast": guess, "actual": actual, "index": "moderate"}
    return {"from": stamp(start), "to": stamp(start + length), "intensity": intensity}


def rows(first, count, now):
    starts = [first + k * HALF for k in range(count)]
    return [row(s, actual=value(s) if s + HALF <= now else None) for s in starts]


class FakeNeso:
    """Answers like the service, at the time `now`; `lag` half hours have no actual yet."""

    def __init__(self, now):
        self.now = now
        self.asked = []
        self.lag = 1

    def __call__(self, request: Request) -> Response:
        self.asked.append(request.path)
        match = _PATH.match(request.path)
        if match is None:
            return Response(status=400)
        start = datetime.fromisoformat(match["start"])
        if match["end"] == "fw48h":
            end = start + timedelta(hours=48)
        else:
            end = datetime.fromisoformat(match["end"])
            if end - start > timedelta(days=14, minutes=30):
                return Response('{"error":{"code":"400 Bad Request"}}', 400, content_type="application/json")
        # The recorded off-by-one: a request from a boundary also returns the half hour that ends there.
        first = start - (start - datetime(2020, 1, 1, tzinfo=UTC)) % HALF
        first = first - HALF if first == start else first
        count = -((first - end) // HALF)
        found = rows(first, count, self.now - self.lag * HALF)
        return Response(json.dumps({"data": found}), content_type="application/json; charset=utf-8")


@contextmanager
def raw_server(answer: bytes | None):
    """Accepts connections and sends `answer`, then closes; None resets the connection without a word."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken = []

    def serve():
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            taken.append(peer)
            if answer is None:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                peer.recv(65536)
                peer.sendall(answer)
            peer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
