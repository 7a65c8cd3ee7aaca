"""One guarded way out to carbon data services.

What is guarded: only listed hosts, https, no redirects, no address inside the cluster or on this machine, at most 2 MiB
of body read as a stream, at most `TOTAL_S` seconds with all attempts, JSON of sane depth. The base URL comes from
code or the operator's own settings, never from a custom resource. An answer with a validator (ETag, Last-Modified) is
asked for conditionally next time: RFC 9110, section 13.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import stamina
from stamina.instrumentation import LoggingOnRetryHook, set_on_retry_hooks

from windward.grid.port import ForecastInvalid, InvalidReason, NotEntitled, RateLimited, UnknownZone, Unreachable

set_on_retry_hooks([LoggingOnRetryHook])  # where structlog is installed stamina would tell of retries on stdout

MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_JSON_DEPTH = 16
# A read that begins at the last moment may add READ_S to TOTAL_S: together below 10 s. Only the resolver of the system
# keeps its own time.
TOTAL_S = 7.0
READ_S = 2.5
CONNECT_S = 3.0
ATTEMPTS = 3
KEPT_ANSWERS = 64


class JsonClient:
    """GETs JSON from one service.

    Args:
        base_url: scheme, host and optional port.
        private: True lets the host be on this machine or in a private network, over http too; for tests.
        total_s: time for one `get` with all its attempts.
    """

    def __init__(
        self, base_url: str, *, private: bool = False, total_s: float = TOTAL_S, read_s: float = READ_S
    ) -> None:
        url = httpx.URL(base_url)
        if url.scheme != "https" and not private:
            raise ValueError(f"{base_url}: carbon data is fetched over https only")
        self._base_url = url
        self._total_s = total_s
        self._read_s = read_s
        self._known: dict[str, _Known] = {}
        # Behind a proxy it is the proxy that resolves names; then the fixed host name is the guard.
        proxied = not private and url.scheme in urllib.request.getproxies()
        self._client = httpx.Client(
            transport=None if proxied else _PublicOnly(private),
            follow_redirects=False,
            # No compression: a small body must not become a large one after the limit was checked.
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "windward"},
        )

    def get(
        self, zone: str, path: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The parsed JSON at `path`; `zone` only names the zone in errors.

        Args:
            params: the query; `headers`: credentials, which reach no error, no log and no cache key.

        Raises:
            ProviderError: see `grid.port`. 5xx and broken connections are tried again within the time limit, at most
                `ATTEMPTS` times; refusals and 429 are not.
        """
        give_up_at = time.monotonic() + self._total_s
        attempts = stamina.retry_context(
            on=lambda error: (
                isinstance(error, Unreachable) and not isinstance(error, RateLimited) and time.monotonic() < give_up_at
            ),
            attempts=ATTEMPTS,
            timeout=self._total_s / 2,
            wait_initial=0.2,
            wait_max=1.0,
            wait_jitter=0.2,
        )
        for attempt in attempts:
            with attempt:
                return _parsed(zone, self._body(zone, path, params or {}, headers or {}, give_up_at))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def close(self) -> None:
        self._client.close()

    def _body(
        self, zone: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], give_up_at: float
    ) -> bytes:
        host = self._base_url.host
        url = self._base_url.join(path).copy_merge_params(dict(params))
        known = self._known.get(str(url))
        left_s = max(give_up_at - time.monotonic(), 0.01)
        timeout = httpx.Timeout(min(self._read_s, left_s), connect=min(CONNECT_S, left_s))
        try:
            headers = {**headers, **(known.conditions if known is not None else {})}
            with self._client.stream("GET", url, headers=headers, timeout=timeout) as response:
                if response.status_code == 304 and known is not None:
                    return known.body
                if response.status_code in (401, 403):
                    response.extensions["refusal"] = self._read(zone, response, give_up_at)
                _check_status(zone, host, response)
                body = self._read(zone, response, give_up_at)
                self._remember(str(url), response, body)
                return body
        except httpx.HTTPError as error:
            cause = f"{host} could not be reached ({type(error).__name__})"
            raise Unreachable(zone, cause, "Check network policy and DNS of this process.") from error

    def _remember(self, url: str, response: httpx.Response, body: bytes) -> None:
        names = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
        conditions = {asks: response.headers[says] for says, asks in names.items() if says in response.headers}
        if conditions:
            self._known.pop(url, None)
            self._known[url] = _Known(conditions, body)
            while len(self._known) > KEPT_ANSWERS:
                self._known.pop(next(iter(self._known)), None)

    def _read(self, zone: str, response: httpx.Response, give_up_at: float) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ForecastInvalid(
                zone, InvalidReason.MALFORMED, "the answer is compressed though that was not asked for"
            )
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise ForecastInvalid(
                    zone, InvalidReason.TOO_LARGE, f"the answer is larger than {MAX_BODY_BYTES} bytes"
                )
            if time.monotonic() > give_up_at:
                raise Unreachable(zone, f"the answer was not complete after {self._total_s:g} s")
        return bytes(body)


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer, and the headers that ask whether it still holds."""

    conditions: Mapping[str, str]
    body: bytes


class _PublicOnly(httpx.HTTPTransport):
    """Resolves the host once, refuses addresses that are not public, and connects to what it checked.

    Checking a name and then letting somebody else resolve it again would leave the door open to DNS rebinding.
    """

    def __init__(self, private: bool) -> None:
        super().__init__(limits=httpx.Limits(max_connections=8, max_keepalive_connections=4))
        self._private = private

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._private:
            return super().handle_request(request)
        host = request.url.host
        # The certificate is still checked against the name, and the Host header was set before and stays.
        request.extensions = {**request.extensions, "sni_hostname": host}
        refused = None
        for address in public_addresses(host, request.url.port or 443):
            request.url = request.url.copy_with(host=address)
            try:
                return super().handle_request(request)
            except httpx.ConnectError as error:  # no route to this one, for example IPv6 without a network for it
                refused = error
        assert refused is not None  # a name that resolves has an address
        raise refused


def public_addresses(host: str, port: int) -> list[str]:
    """The first two addresses of `host`, provided that every one of them is public.

    Raises:
        httpx.ConnectError: the name does not resolve, or an address is loopback, private, link-local or reserved.
    """
    try:
        resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpx.ConnectError(f"{host} does not resolve: {error}") from error
    addresses = [str(entry[4][0]).partition("%")[0] for entry in resolved]
    for address in addresses:
        ip = ipaddress.ip_address(address)
        # An IPv4 address in IPv6 clothes (::ffff:10.0.0.1) is refused whatever it maps to: no resolver needs it here.
        mapped = isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None
        if mapped or not ip.is_global or ip.is_multicast:
            raise httpx.ConnectError(f"{host} resolves to {address}, which is not public")
    return list(dict.fromkeys(addresses))[:2]


def _check_status(zone: str, host: str, response: httpx.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    if 300 <= status < 400:
        raise ForecastInvalid(zone, InvalidReason.REDIRECTED, f"{host} redirects ({status}), which is not followed")
    if status in (401, 403):
        message = _message(response.extensions.get("refusal", b""))
        cause = f"{host} answers {status}" + (f": {message}" if message else "")
        raise NotEntitled(zone, cause, "Check the key and whether its plan includes this zone and signal.")
    if status == 404:
        raise UnknownZone(zone, f"{host} answers 404")
    if status == 429:
        wish = retry_after(response.headers.get("retry-after"), response.headers.get("date"))
        raise RateLimited(zone, f"{host} asks for fewer requests (429)", retry_after=wish)
    if status >= 500:
        raise Unreachable(zone, f"{host} answers {status}")
    raise ForecastInvalid(zone, InvalidReason.MALFORMED, f"{host} answers {status}")


def _message(body: bytes) -> str:
    """The message in a refusal's body (401 also means "not in your plan"): one line of at most 160 characters."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    fields = answer if isinstance(answer, dict) else {}
    text = next((fields[k] for k in ("message", "error", "detail") if isinstance(fields.get(k), str)), "")
    return " ".join(text.split())[:160].rstrip(".")


def retry_after(header: str | None, date: str | None) -> timedelta | None:
    """The pause that a `Retry-After` header asks for (seconds, or a date relative to the server's own `Date`)."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return timedelta(seconds=min(int(header.strip()[:9]), 86_400))
    try:
        until = parsedate_to_datetime(header)
        then = parsedate_to_datetime(date or "")
        return max(_aware(until) - _aware(then), timedelta(0))
    except (ValueError, TypeError):
        return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parsed(zone: str, body: bytes) -> Any:
    """JSON, whatever the content type claims: a body that parses is an answer, an HTML page does not parse."""
    try:
        value = json.loads(body)
    except RecursionError:
        raise ForecastInvalid(zone, InvalidReason.TOO_DEEP, "the answer is nested too deep") from None
    except ValueError:
        raise ForecastInvalid(zone, InvalidReason.NOT_JSON, "the answer is not JSON") from None
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return value
    raise ForecastInvalid(zone, InvalidReason.TOO_DEEP, f"the answer is nested deeper than {MAX_JSON_DEPTH}")


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
