"""Tests play recorded answers: what would leave for the public network fails before it does."""

import socket

import httpx
import pytest


@pytest.mark.parametrize("address", [("1.1.1.1", 443), ("2606:4700:4700::1111", 443)])
def test_no_connection_leaves(address):
    with pytest.raises(AssertionError, match="recorded answers"):
        socket.create_connection(address, timeout=1)


def test_nor_does_a_request():
    with pytest.raises(AssertionError, match="recorded answers"):
        httpx.get("http://1.1.1.1/", timeout=1)


def test_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass
