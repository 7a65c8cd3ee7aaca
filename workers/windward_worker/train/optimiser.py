"""AdamW, with its state in the open.

torch's own pulls in the compiler when it is made, which costs seconds at each resume; this needs nothing but tensors,
and a checkpoint is its two lists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from windward_worker.control import Diverged

BETA1, BETA2, EPS = 0.9, 0.95, 1e-8
WEIGHT_DECAY = 0.1  # of matrices only
CLIP = 1.0  # largest norm of the whole gradient


class AdamW:
    """Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2, with the gradient's norm clipped first."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = list(weights)
        self.mean = [torch.zeros_like(w) for w in self.weights]
        self.square = [torch.zeros_like(w) for w in self.weights]
        self._matrices = [w for w in self.weights if w.dim() > 1]

    @torch.no_grad()
    def step(self, number: int, rate: float) -> None:
        """Step `number`, from 1 on, with the gradients that the weights hold; drops them.

        Raises Diverged, with weights and state as they were, where the gradients' norm is not finite.
        """
        grads = [w.grad for w in self.weights if w.grad is not None]
        assert len(grads) == len(self.weights), "a weight has no part in the loss"
        norm = torch.stack(torch._foreach_norm(grads)).norm()
        if not math.isfinite(float(norm)):
            raise Diverged(f"the gradient's norm is {float(norm)}")
        torch._foreach_mul_(grads, (CLIP / (norm + 1e-6)).clamp_max(1.0))
        torch._foreach_lerp_(self.mean, grads, 1 - BETA1)
        torch._foreach_mul_(self.square, BETA2)
        torch._foreach_addcmul_(self.square, grads, grads, 1 - BETA2)
        spread = torch._foreach_sqrt(self.square)
        torch._foreach_div_(spread, math.sqrt(1 - BETA2**number))
        torch._foreach_add_(spread, EPS)
        torch._foreach_mul_(self._matrices, 1 - rate * WEIGHT_DECAY)
        torch._foreach_addcdiv_(self.weights, self.mean, spread, -rate / (1 - BETA1**number))
        self.clear()

    def clear(self) -> None:
        """Drop the gradients."""
        for weight in self.weights:
            weight.grad = None
