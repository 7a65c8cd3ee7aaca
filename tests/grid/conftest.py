import pytest
import stamina


@pytest.fixture(autouse=True)
def no_waiting_and_no_proxy(monkeypatch):
    """Retries happen, their pauses do not; a proxy of the machine must not see requests to a local server."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with stamina.set_testing(True, attempts=3, cap=True):
        yield
