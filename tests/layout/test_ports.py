"""Ports that a test server is told of must still be free when it starts."""

import random
import re
import socket
from pathlib import Path

from ports import RANGE, free_ports

TESTS = Path(__file__).resolve().parents[1]


def test_a_free_port_is_none_that_the_kernel_may_give_to_a_client():
    first = int(RANGE.read_text().split()[0])
    ports = free_ports(50, source=random.Random(7))
    assert len(set(ports)) == 50
    assert all(port < first for port in ports)


def test_a_port_that_is_taken_is_passed_over():
    (port,) = free_ports(1, source=random.Random(11))
    with socket.create_server(("127.0.0.1", port)):
        assert free_ports(1, source=random.Random(11)) != [port]


def test_no_test_takes_a_port_from_the_kernel_and_gives_it_back_before_use():
    """A probe closed before the server starts: a socket bound to port 0 only to learn a number."""
    probe = re.compile(r"with socket\.socket\(.*\n\s+\w+\.bind\(\(.*, 0\)\)")
    found = [str(p.relative_to(TESTS)) for p in TESTS.rglob("*.py") if probe.search(p.read_text())]
    assert found == [], found
