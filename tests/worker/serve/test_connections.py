"""Clients that say nothing, say it slowly, do not read, or are too many: probes answer all the while."""

import contextlib
import json
import logging
import selectors
import socket
import time

import httpx
import pytest
from worker.serve.process import NAME, TOKEN, Server

from windward_worker.control import Refused
from windward_worker.control.logs import Limited
from windward_worker.serve import connections

FILES = 256  # open files that the server may have
SILENT_S = 2.0


@pytest.fixture(scope="module")
def narrow(small):
    """A server with few descriptors, soft and hard."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))"
    server = Server(small, "--max-body", 100_000, "--max-silence", SILENT_S, prelude=code)
    yield server
    server.close()


def connect(url):
    host, port = url.removeprefix("http://").split(":")
    made = socket.create_connection((host, int(port)), timeout=30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def seconds_until_closed(client, since_s, drip=b""):
    """Until the server ends the connection, while we send a byte now and then."""
    client.settimeout(0.5)
    while time.monotonic() - since_s < 60:
        with contextlib.suppress(TimeoutError):
            try:
                if drip:
                    client.sendall(drip)
                if not client.recv(65536):
                    return time.monotonic() - since_s
            except (ConnectionError, BrokenPipeError):
                return time.monotonic() - since_s
    return None


@pytest.fixture
def hanging_up():
    """Closes what a test entered, however it ends: a server still full would fail the next."""
    with contextlib.ExitStack() as stack:
        yield stack


def told_something(clients, within_s):
    """Those that can be read; `select` itself refuses descriptors above 1023, and earlier tests may hold many."""
    with selectors.DefaultSelector() as ready:
        for client in clients:
            ready.register(client, selectors.EVENT_READ)
        return [key.fileobj for key, _ in ready.select(within_s)]


def probe(server):
    began_s = time.monotonic()
    assert httpx.get(f"{server.ops}/healthz", timeout=5).text == "ok\n"
    return time.monotonic() - began_s


def test_probes_answer_while_clients_fill_the_server(narrow, hanging_up):
    """300 clients that say nothing, above the limit of open files: the port was dead until they left."""
    began_s = time.monotonic()
    clients = [hanging_up.enter_context(connect(narrow.url)) for _ in range(300)]
    assert max(probe(narrow) for _ in range(5)) < 1
    refused = told_something(clients, 0.3)
    assert 100 < len(refused) < 250, "the others are held"
    assert b"503" in refused[0].recv(100)
    late = httpx.get(f"{narrow.url}/v1/models", headers={"Authorization": f"Bearer {TOKEN}"})
    assert late.status_code == 503 and late.headers["retry-after"] == "1"
    assert late.json()["error"]["message"] == "too many connections; try again"
    held = [c for c in clients if c not in refused]
    assert all(SILENT_S * 0.9 < seconds_until_closed(c, began_s) < SILENT_S * 2 + 1 for c in (held[0], held[-1]))
    with narrow.client() as client:
        assert client.get("/v1/models").status_code == 200, "there is room again"
    assert probe(narrow) < 1
    assert "Too many open files" not in narrow.log and "out of system resource" not in narrow.log


SLOW = {
    "nothing": (b"", b""),
    "headers byte by byte": (b"GET /v1/models HTTP/1.1\r\nX-Slow: ", b"a"),
    "headers after an answer": (
        f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\nG".encode(),
        b"E",
    ),
    "the body of a refused request": (
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n",
        b"{",
    ),
}


@pytest.mark.parametrize("slow", SLOW)
def test_a_slow_client_is_closed(narrow, slow):
    said, drip = SLOW[slow]
    client, began_s = connect(narrow.url), time.monotonic()
    client.sendall(said)
    passed_s = seconds_until_closed(client, began_s, drip)
    assert passed_s is not None and passed_s < SILENT_S * 2 + 1, "bytes now and then do not keep it open"
    assert slow == "nothing" or passed_s > 0.2
    client.close()


def test_headers_without_end_are_cut(narrow):
    client = connect(narrow.url)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(200):
            client.sendall(b"a" * 4096)
            time.sleep(0.001)
        assert client.recv(100)[:12] in (b"", b"HTTP/1.1 400")
    client.close()


def test_the_operators_port_makes_room(narrow):
    """Idle connections there cannot keep a probe out: the oldest goes."""
    idle = [connect(narrow.ops) for _ in range(60)]
    assert max(probe(narrow) for _ in range(5)) < 1
    for client in idle:
        client.close()


def test_an_answer_and_a_kept_connection_are_as_before(narrow):
    with narrow.client() as client:
        for _ in range(3):
            body = {"model": NAME, "prompt": "wind", "max_tokens": 3}
            assert client.post("/v1/completions", content=json.dumps(body)).status_code in (200, 400)
            assert client.get("/v1/models").status_code == 200


def test_a_flood_of_faults_is_a_few_lines(narrow):
    before = narrow.log.count("Invalid HTTP request")
    for _ in range(60):
        client = connect(narrow.url)
        client.sendall(b"\x00\x01\r\n\r\n")
        client.settimeout(5)
        with contextlib.suppress(ConnectionError):
            client.recv(1000)
        client.close()
    assert 1 <= narrow.log.count("Invalid HTTP request") - before <= 21


def test_few_files_mean_few_clients(monkeypatch):
    set_to = []
    monkeypatch.setattr(connections, "open_files", lambda: 30)
    monkeypatch.setattr(connections.resource, "setrlimit", lambda which, pair: set_to.append(pair))

    def limit(soft, hard):
        monkeypatch.setattr(connections.resource, "getrlimit", lambda which: (soft, hard))

    limit(100_000, 100_000)
    assert connections.connections_for(1024) == 1024 and set_to == []
    limit(256, 100_000)
    assert connections.connections_for(1024) == 1024 and 1024 < set_to[0][0] < 2048, "raised, as it may be"
    limit(400, 400)
    assert 100 < connections.connections_for(1024) < 400 - connections.RESERVED
    limit(64, 64)
    with pytest.raises(Refused, match=r"64 open files .*ulimit -n"):
        connections.connections_for(1024)


def test_a_repeated_warning_is_counted():
    now = [0.0]
    limited = Limited(3, 10.0, lambda: now[0])

    def emit(level, words, *args):
        record = logging.LogRecord("windward", level, "", 0, words, args, None)
        return record.getMessage() if limited.filter(record) else None

    assert [emit(logging.WARNING, "bad %d", i) for i in range(5)] == ["bad 0", "bad 1", "bad 2", None, None]
    assert emit(logging.WARNING, "other") == "other" and emit(logging.INFO, "bad %d", 9) == "bad 9"
    now[0] = 11.0
    assert emit(logging.WARNING, "bad %d", 7) == "bad 7 (and 2 more like it)"
    assert emit(logging.WARNING, "bad %d", 8) == "bad 8"
