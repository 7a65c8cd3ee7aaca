"""Quantities by the full grammar of Kubernetes; what is none is refused, never counted as nothing."""

from decimal import Decimal

import pytest

from windward_api.quantity import parse_quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2", "2"), ("500m", "0.5"), ("500u", "0.0005"), ("100n", "0.0000001"), ("1k", "1000"), ("2M", "2000000"),
        ("1P", "1e15"), ("2E", "2e18"), ("1E", "1e18"), ("1E3", "1000"), ("1e3", "1000"), ("12e-1", "1.2"),
        ("1Ki", "1024"), ("1.5Gi", "1610612736"), ("1Pi", "1125899906842624"), (".5", "0.5"), ("5.", "5"), ("+3", "3"),
        ("0", "0"), (2, "2"), (0.5, "0.5"), ("7Ei", "8070450532247928832"),
    ],
)  # fmt: skip
def test_a_quantity_is_what_kubernetes_reads(text, amount):
    assert parse_quantity(text) == Decimal(amount)


@pytest.mark.parametrize(
    "value",
    ["nan", "inf", "1e400", "-1000000", "-0.5", "8Ei", "1 Gi", "Ki", "", "much", "1ee3", "1KiB", "0x10", "1_000", "٣",
     None, True, [], {}, "1" * 70, "1e99999999", "1e9999999999", float("nan"), float("inf")],
)  # fmt: skip
def test_what_is_no_quantity_is_refused(value):
    with pytest.raises(ValueError, match=r"quantity|negative|more than Kubernetes"):
        parse_quantity(value)
