"""Accounts of a laptop become final: a later command weighs them anew, within a second where it only looks."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from service.fake_provider import FakeProvider
from service.world import job_body, region_body

from windward.grid.port import Unreachable
from windward.ledger import open_ledger
from windward.service.local import LocalController
from windward.service.settling import open_accounts, settle, settle_in_passing
from windward.service.submissions import Submission

NOW = {"windward.dev/run-now": "true"}
REGIONS = (region_body("north", "SE", pue="1.1"), region_body("south", "DE", pue="1.25"))


@pytest.fixture
def ended(tmp_path):
    """A machine on which a job has just ended, and the provider that may still revise its hours."""
    provider = FakeProvider(offset={"DE": 500.0})
    world = LocalController.open(tmp_path, source=provider)
    body = job_body()
    body["metadata"] |= {"namespace": "default", "annotations": NOW}
    world.drive(world.admit(Submission((body,), REGIONS, source='{"name": "fake"}')))
    world.close()
    return tmp_path, provider


def receipts(home):
    ledger = open_ledger(f"sqlite:///{home}/book.db")
    try:
        return ledger.receipt_history(ledger.receipts()[0].uid)
    finally:
        ledger.close()


def test_a_receipt_becomes_final_once_its_hours_stand(ended):
    home, provider = ended
    asked = []
    (open_,) = settle(home, lambda note: asked.append(note) or provider)
    assert asked == ['{"name": "fake"}'] and not open_.settled and "may be revised until" in open_.why
    assert len(open_accounts(home)) == 1 and not receipts(home)[-1].settled
    provider.revised_for = timedelta(0)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    provider.revision = {hour + timedelta(hours=k): 900.0 for k in range(-1, 2)}  # revised, then final
    (final,) = settle(home, lambda _: provider)
    assert final.settled and final.account.emissions_g is not None
    last = receipts(home)[-1]
    assert last.settled and [i["intensityGramsPerKwh"] for i in last.body["intervals"]] == pytest.approx(
        [900.0] * len(last.body["intervals"])
    )
    assert open_accounts(home) == [] and settle(home, lambda _: provider) == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (lambda _: None, "no source of carbon data"),
        (lambda _: (_ for _ in ()).throw(Unreachable("DE", "no key")), "cannot be asked"),
    ],
)
def test_what_keeps_it_open_is_said(ended, source, why):
    (found,) = settle(ended[0], source)
    assert found.account is None and why in found.why and len(open_accounts(ended[0])) == 1


def test_who_only_looks_waits_a_second_at_most_and_not_again(ended):
    home, provider = ended
    hangs, asked = threading.Event(), []

    def history(zone, start, end):
        asked.append(zone)
        hangs.wait(30)
        raise Unreachable(zone, "it hung")

    provider.history = history
    begun = time.monotonic()
    assert settle_in_passing(home, lambda _: provider, patience_s=0.3) == []
    assert time.monotonic() - begun < 5, "a source that hangs held up a command"
    assert settle_in_passing(home, lambda _: provider, patience_s=0.3) == [] and len(asked) == 1
    hangs.set()
    (home / "settled").unlink()
    for thread in threading.enumerate():
        if thread.name == "settling":
            thread.join(10)
    del provider.history
    provider.revised_for = timedelta(0)
    (found,) = settle_in_passing(home, lambda _: provider, patience_s=30)
    assert found.settled
