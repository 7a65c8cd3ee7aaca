"""The guarded way out: no address inside, and a checked name behind a pinned address."""

import ssl
import subprocess

import httpx
import pytest
from pytest_httpserver import HTTPServer
from skips import need

from windward.grid import Unreachable
from windward.grid import http as guarded
from windward.grid.http import JsonClient, public_addresses


@pytest.mark.parametrize(
    "inside",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.5.5", "192.168.1.1", "100.64.0.1", "169.254.169.254",
        "224.0.0.1", "255.255.255.255", "::1", "::", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:8.8.8.8",
        "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "localhost", "2130706433", "0x7f000001",
    ],
)  # fmt: skip
def test_an_address_inside_is_refused(inside):
    with pytest.raises(httpx.ConnectError, match="not public"):
        public_addresses(inside, 443)


@pytest.mark.parametrize("outside", ["8.8.8.8", "2001:4860:4860::8888"])
def test_a_public_address_is_kept(outside):
    assert public_addresses(outside, 443) == [outside]


def test_one_private_address_among_public_ones_is_refused(monkeypatch):
    answers = [(2, 1, 6, "", ("8.8.8.8", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(guarded.socket, "getaddrinfo", lambda *_args, **_kw: answers)
    with pytest.raises(httpx.ConnectError, match=r"10\.0\.0\.1"):
        public_addresses("rebinding.test", 443)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    need("openssl")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", "key.pem", "-out", "cert.pem"),
            *("-subj", "/CN=carbon.test", "-addext", "subjectAltName=DNS:carbon.test"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def tls_server(certificate, monkeypatch):
    """Serves `carbon.test`; the guard takes this machine for public, all else is as it is for the real service."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setattr(guarded, "public_addresses", lambda _host, _port: ["127.0.0.2", "127.0.0.1"])
    with HTTPServer(host="127.0.0.1", ssl_context=context) as server:
        server.expect_request("/x").respond_with_json({"ok": 1})
        yield server


def test_the_pinned_address_is_spoken_to_by_name(tls_server):
    assert JsonClient(f"https://carbon.test:{tls_server.port}").get("GB", "/x") == {"ok": 1}
    request, _ = tls_server.log[0]
    assert request.headers["Host"] == f"carbon.test:{tls_server.port}"
    assert request.headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in request.headers and "Cookie" not in request.headers


def test_a_certificate_of_another_name_is_refused(tls_server):
    with pytest.raises(Unreachable):
        JsonClient(f"https://other.test:{tls_server.port}").get("GB", "/x")
    assert tls_server.log == []
