"""What a test does when this machine cannot do it: it is skipped loudly, or fails where nothing may be skipped."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unavailable(reason: object) -> NoReturn:
    if os.environ.get("CI", "").lower() in {"1", "true"} or os.environ.get("WINDWARD_NO_SKIP"):
        pytest.fail(f"nothing is skipped here (CI or WINDWARD_NO_SKIP is set): {reason}", pytrace=False)
    pytest.skip(f"NO CLUSTER TESTS: {reason}")
