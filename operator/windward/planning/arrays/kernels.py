"""Which of the two sets of inner loops runs: numpy's by default, numba's where it is installed and pays."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Protocol, cast

from windward.planning.arrays import reference
from windward.planning.arrays.instance import Floats, Instance, Ints, Near

PAYS_FROM = 200_000  # starts to weigh: below, loading numba takes longer than numpy's whole plan
_prefer = False


def prefer_compiled(wanted: bool = True) -> bool:
    """For processes that plan many times: compiled loops for every fleet, if numba is installed. Plans stay the same.

    Returns:
        Whether they will be used.
    """
    global _prefer
    _prefer = wanted and importlib.util.find_spec("numba") is not None
    return _prefer


def preferred() -> bool:
    """Whether this process asked for compiled loops, and has them."""
    return _prefer


class Kernels(Protocol):
    """The inner loops; see `reference` for what each promises."""

    NAME: str

    def cheapest_options(self, fleet: Instance, prices: Floats) -> tuple[Ints, Ints, Floats]: ...

    def touching(self, fleet: Instance, lane: Ints, start: Ints, used: Floats) -> Ints: ...

    def route(
        self,
        fleet: Instance,
        order: Ints,
        lane: Ints,
        start: Ints,
        used: Floats,
        mu: Floats,
        penalty: Floats,
        rip: bool,
        wish_lane: Ints,
        wish_start: Ints,
    ) -> None: ...

    def polish(
        self, fleet: Instance, order: Ints, lane: Ints, start: Ints, used: Floats, prices: Floats, scale: float
    ) -> int: ...

    def ruin(
        self,
        fleet: Instance,
        near: Near,
        lane: Ints,
        start: Ints,
        used: Floats,
        prices: Floats,
        draws: Floats,
        hot: float,
        cool: float,
        miss_g: Floats,
        best_lane: Ints,
        best_start: Ints,
    ) -> None: ...


def pick(fleet: Instance, compiled: bool | None = None) -> Kernels:
    """The loops for a fleet: as told, else compiled ones where numba is installed and the fleet is large.

    Raises:
        ImportError: compiled loops were asked for and numba is not installed (`pip install windward[compiled]`).
    """
    if compiled is None:
        compiled = _prefer or (len(fleet.grams) >= PAYS_FROM and importlib.util.find_spec("numba") is not None)
    if not compiled:
        return cast(Kernels, reference)
    return cast(Kernels, importlib.import_module("windward.planning.arrays.compiled"))
