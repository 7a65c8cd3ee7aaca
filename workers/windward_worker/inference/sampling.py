"""The next token of each sequence, from its logits. numpy alone."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import numpy.typing as npt

from windward_worker.inference.sequence import Request

Floats = npt.NDArray[np.float32]


def uniform(seed: int, place: int) -> float:
    """A number in [0, 1) that depends on its arguments alone: 53 bits of their digest."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed & (1 << 64) - 1, place), digest_size=8).digest()
    return float(int.from_bytes(digest, "little") >> 11) * 2.0**-53


def draw(logits: Floats, request: Request, place: int) -> int:
    """One token for the answer's `place`, from logits (V,).

    The random number depends on the request's seed and the place alone, so an answer is the same alone, in company,
    after a preemption and after a snapshot. top_p: Holtzman et al. 2019, arXiv 1904.09751, section 3.1.
    """
    if request.temperature <= 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / request.temperature
    weight = np.exp(scaled - scaled.max())
    point = uniform(request.seed, place)
    if request.top_p < 1:
        # Tokens below this weight have less than 1 - top_p together: the likeliest that have top_p are all above it,
        # and only they need to be sorted.
        least = (1 - request.top_p) * float(weight.sum()) / len(weight)
        some = np.flatnonzero(weight >= least)
        order = some[np.argsort(-weight[some], kind="stable")]
        total = weight[order].cumsum()
        kept = min(int(total.searchsorted(request.top_p * float(weight.sum()))) + 1, len(total))
        return int(order[min(int(total[:kept].searchsorted(point * total[kept - 1], side="right")), kept - 1)])
    total = weight.cumsum()
    return min(int(total.searchsorted(point * total[-1], side="right")), len(total) - 1)
