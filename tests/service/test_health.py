"""The operator's health port answers probes however many connections are held open."""

import contextlib
import socket
import time
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from windward.service import health


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(health, "PATIENCE_S", 1.0)
    made = health.serve(0, lambda: None, lambda: "no cycle yet", CollectorRegistry(), lambda: "good cycle 3 s ago")
    yield made
    made.shutdown()
    made.server_close()


def probe(server, path="/healthz"):
    return urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}{path}", timeout=10).read()


def test_a_probe_is_told_when_the_last_good_cycle_was(server):
    assert probe(server) == b"ok: good cycle 3 s ago\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        probe(server, "/readyz")
    assert caught.value.code == 503 and caught.value.read() == b"no cycle yet\n"


def test_idle_connections_keep_no_probe_out_and_are_closed(server):
    held = []
    for n in range(200):
        one = socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10)
        one.sendall(b"GET /healthz HTTP/1.1\r\nX: " if n % 2 else b"")
        held.append(one)
    began = time.monotonic()
    assert probe(server).startswith(b"ok")
    assert time.monotonic() - began < 8
    for one in held:  # each is over within the deadline of a request, or was over when too many were open
        one.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert one.recv(1024) == b""
        one.close()
    assert len(server._open) <= 1
