"""How many requests are inside the server at once, and whether it takes any: no queue grows without bound."""

from __future__ import annotations

import math

from windward_worker.serve.errors import ApiError
from windward_worker.serve.metrics import Metrics


class Admission:
    """A bounded number of places. Used from the loop's thread only.

    Attributes:
        held: requests that hold a place now.
        draining: the server is shutting down and takes no more.
    """

    def __init__(self, places: int, metrics: Metrics) -> None:
        self.held = 0
        self.draining = False
        self._places = places
        self._metrics = metrics

    def acquire(self) -> None:
        """Take a place; `release` gives it back. Raises ApiError 429, with the seconds to wait, where none is free."""
        if self.held >= self._places:
            wait_s = min(60, max(1, math.ceil(self._metrics.mean_s)))
            raise ApiError(
                429,
                f"{self.held} requests are being answered, and no more are taken; try again in {wait_s} s",
                code="too_many_requests",
                retry_after_s=wait_s,
            )
        self.held += 1

    def release(self) -> None:
        """Give a place back."""
        self.held -= 1

    def refusal(self) -> ApiError | None:
        """ApiError 503 while the server drains; None while it takes requests."""
        if not self.draining:
            return None
        return ApiError(503, "this server is shutting down; ask another", code="draining", retry_after_s=1)
