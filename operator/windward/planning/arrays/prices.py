"""Prices on capacity: what one more unit in one slot of one region would save the fleet, in grams.

Normalised dual ascent (docs/planning.md 4). For any prices mu >= 0,

    q(mu) = sum over jobs of min over starts [grams + units x prices of the slots held] - sum of mu x cap

is a lower bound on the grams of every plan that keeps the capacities; the ascent looks for the highest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from windward.planning.arrays.instance import Floats, Instance, prefix, scattered
from windward.planning.arrays.kernels import Kernels

_STEP, _SLOWING = 0.25, 8.0  # of a unit's typical grams at first; halved after that many rounds
_MOMENTUM, _MEMORY = 0.6, 0.9
_FLOOR = 0.2  # keeps slots that hardly ever miss from jumping
_SAMPLE = 2_500  # jobs whose prices stand in for those of a larger fleet at first
_COLD, _FINE = 0.7, 0.1  # steps from nothing, and from prices that are nearly right


@dataclass(frozen=True, slots=True)
class Prices:
    """Grams per unit and slot, and the bound that they prove.

    Attributes:
        mu: (Q, R, T).
        bound_g: no plan that keeps the capacities has fewer grams.
    """

    mu: Floats
    bound_g: float


def ascend(
    fleet: Instance,
    kernels: Kernels,
    iterations: int,
    *,
    theta: float,
    warm: Floats | None = None,
    enough: float = math.inf,
) -> Prices:
    """The best of `iterations` rounds; `theta` scales the steps: 0.7 cold, 0.4 rolling, 0.2 warm.

    Args:
        warm: prices to begin with, of an earlier plan.
        enough: a bound that is high enough to stop at.
    """
    unit_g = fleet.unit_g[:, None, None]
    bounded = np.isfinite(fleet.cap)
    cap = np.where(bounded, fleet.cap, 0.0)
    scale = np.maximum(cap.max(axis=2, keepdims=True), 1e-9)
    mu = np.zeros(fleet.cap.shape) if warm is None else np.where(bounded, np.maximum(warm, 0.0), 0.0)
    momentum, square = np.zeros(mu.shape), np.zeros(mu.shape)
    best = Prices(mu.copy(), -math.inf)
    for i in range(max(1, iterations)):
        lane, start, cost = kernels.cheapest_options(fleet, prefix(mu))
        bound = float(cost.sum()) - float((mu * cap).sum())
        if bound > best.bound_g:
            best = Prices(mu.copy(), bound)
            if bound >= enough:
                break
        excess = np.clip((fleet.use(lane, start) - cap) / scale, -1.0, 2.0)
        excess[~bounded | ((mu == 0.0) & (excess < 0.0))] = 0.0
        momentum = _MOMENTUM * momentum + (1.0 - _MOMENTUM) * excess
        square = _MEMORY * square + (1.0 - _MEMORY) * excess**2
        size = theta * _STEP * unit_g / (1.0 + i / _SLOWING)
        mu = np.maximum(0.0, mu + size * momentum / (np.sqrt(square / (1.0 - _MEMORY ** (i + 1))) + _FLOOR))
    return best


def climb(fleet: Instance, kernels: Kernels, iterations: int, *, seed: int, enough: float = math.inf) -> Prices:
    """Prices by way of samples of the fleet, each four times as large as the one before, then all of it.

    Prices follow from how much work meets how much room, and a quarter of a large fleet says that nearly as well as all
    of it, at a quarter of the cost; the last rounds, on all jobs, take small steps and give the bound.
    """
    mu = None
    sizes = [_SAMPLE * 4**k for k in range(12) if _SAMPLE * 4 ** (k + 1) <= fleet.size]
    for size in sizes:
        jobs = scattered(fleet.size, size, seed)
        share = fleet.held[jobs].sum(axis=0) / np.maximum(fleet.held.sum(axis=0), 1e-300)
        part = fleet.of(jobs, fleet.cap * share[:, None, None])
        if mu is None:
            mu = ascend(part, kernels, iterations, theta=_COLD).mu
        else:
            mu = ascend(part, kernels, iterations // 3, theta=_FINE, warm=mu).mu
    if mu is None:
        return ascend(fleet, kernels, iterations, theta=_COLD, enough=enough)
    return ascend(fleet, kernels, iterations // 3, theta=_FINE, warm=mu)
