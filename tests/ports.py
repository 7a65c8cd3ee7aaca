"""TCP ports for servers that must be told their port before they start."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10_000


def free_ports(count: int, host: str = "127.0.0.1", source: random.Random | None = None) -> list[int]:
    """Returns `count` different ports that nothing on `host` listens on.

    They lie below the range from which the kernel gives ports to outgoing connections: one of those, free now, may be a
    client's before the server that was told of it starts.
    """
    source = source or random.Random()
    ports: list[int] = []
    for port in source.sample(range(LOWEST, _first_outgoing()), 1000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"fewer than {count} of 1000 ports tried on {host} are free")


def _first_outgoing() -> int:
    """Where the kernel's own range begins; where it can't be read, as Linux sets it."""
    first = int(RANGE.read_text().split()[0]) if RANGE.exists() else 32_768
    return first if first > LOWEST + 1000 else 32_768
