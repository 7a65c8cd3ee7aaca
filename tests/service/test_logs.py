"""What the operator logs names no URL of a provider: a key may be part of it."""

import logging

import httpx
import pytest

from windward.service.main import logs


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_a_key_in_a_url_is_not_logged_at_any_level(level, capfd):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs(level)
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json={}))
        httpx.Client(transport=transport).get("https://example.org/v2/data", params={"api_key": "s3cret"})
        logging.getLogger("windward").warning("this is logged")
    finally:
        root.handlers[:], root.level = before
    said = capfd.readouterr().err
    assert "this is logged" in said and "s3cret" not in said
