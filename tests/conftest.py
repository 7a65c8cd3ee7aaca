"""How tests share two workers: those on the cluster stay together, with the cluster; the others file by file, with the
models and servers that a file starts."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest
from skips import pytest_configure, pytest_runtest_setup  # noqa: F401  hooks
from xdist.scheduler import LoadScopeScheduling

WITH_RECEIPTS = {"acceptance", "cli", "local", "service", "simulation"}


class Together(LoadScopeScheduling):
    """Keeps all tests of the cluster on one worker, and those of a file.

    Not `--dist loadgroup`: with pytest 9.2, xdist 3.8 writes the group where nobody reads it, and test by test goes
    anywhere, each worker with a cluster of its own.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "cluster" if path.startswith("tests/cluster/") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # as collected: the cluster, which takes longest, comes early
    return Together(config, log)


def _inside(host: object) -> bool:
    """Loopback, a private address of a test cluster, or no address at all (a name is judged when it is resolved)."""
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return True
    return address.is_private or address.is_loopback or address.is_unspecified or address.is_link_local


def _guarded(connect):
    def checked(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _inside(address[0]):
            raise AssertionError(f"a test was about to reach {address[0]}: play recorded answers on 127.0.0.1 instead")
        return connect(self, address)

    return checked


@pytest.fixture(autouse=True, scope="session")
def no_public_network():
    """In this process; children are our own programs, which are given local addresses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", _guarded(socket.socket.connect_ex))
        yield


@pytest.fixture(autouse=True)
def every_receipt_verifies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """A stranger agrees with each receipt that a test makes, in this process or in a book below `tmp_path`."""
    if request.path.parent.name not in WITH_RECEIPTS:
        yield
        return
    import receipts

    faults = receipts.watch(monkeypatch)
    folder = Path(request.getfixturevalue("tmp_path")) if "tmp_path" in request.fixturenames else None
    yield
    if folder is not None:
        faults += receipts.faults_of_books(folder)
    assert not faults, "a stranger does not agree with a receipt:\n" + "\n".join(faults)
