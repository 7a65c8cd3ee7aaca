"""The next token of each sequence, from its logits. numpy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from windward_worker.inference.sequence import Request

Floats = npt.NDArray[np.float32]


def draw(logits: Floats, request: Request, place: int) -> int:
    """One token for the answer's `place`, from logits (V,).

    The random number depends on the request's seed and the place alone, so an answer is the same alone, in company,
    after a preemption and after a snapshot. top_p: Holtzman et al. 2019, arXiv 1904.09751, section 3.1.
    """
    if request.temperature <= 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / request.temperature
    weight = np.exp(scaled - scaled.max())
    point = np.random.Generator(np.random.Philox(key=request.seed, counter=place)).random()
    if request.top_p < 1:
        order = np.argsort(-weight, kind="stable")
        total = np.cumsum(weight[order])
        kept = int(np.searchsorted(total, request.top_p * total[-1])) + 1
        return int(order[np.searchsorted(total[:kept], point * total[kept - 1], side="right").clip(max=kept - 1)])
    total = np.cumsum(weight)
    return int(np.searchsorted(total, point * total[-1], side="right").clip(max=len(total) - 1))
