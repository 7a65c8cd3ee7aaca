"""How long requests may be held back to share a step, and how many share it: by carbon and by a cap on power.

A batch reads the weights once for all, so joules per token fall with its size while each answer takes longer. Where
electricity is dirty we wait longer and batch more; where it is clean we answer at once. Steps that draw more than the
cap must pause anyway: then waiting for company costs no answers. The figures come from the control plane (signals.py);
without them the engine answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from windward_worker.inference.scheduler import BatchLimits

CLEAN_G_PER_KWH, DIRTY_G_PER_KWH = 50.0, 500.0


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """`min_waiting`: begin once so many wait or the oldest has waited `max_wait_s`; `max_sequences`: at once.

    `cap_w`: mean draw to stay below, by pausing between steps. `intensity_g_per_kwh`, where known, turns joules into
    grams on each answer.
    """

    min_waiting: int = 1
    max_wait_s: float = 0.0
    max_sequences: int | None = None
    cap_w: float | None = None
    intensity_g_per_kwh: float | None = None

    def should_wait(self, waiting: int, running: int, oldest_s: float) -> bool:
        """Whether to go on collecting. Nothing is held back while others run: joining them costs no extra pass."""
        return running == 0 and 0 < waiting < self.min_waiting and oldest_s < self.max_wait_s

    def within(self, limits: BatchLimits) -> BatchLimits:
        """The engine's limits with no more sequences than this policy wants at once, and at least one."""
        if self.max_sequences is None:
            return limits
        return BatchLimits(limits.max_tokens, max(1, min(self.max_sequences, limits.max_sequences)))

    def pause_s(self, step_s: float, step_w: float) -> float:
        """Idle time after a step that drew `step_w`, so that the mean stays below the cap; at most a second."""
        if self.cap_w is None or step_w <= self.cap_w:
            return 0.0
        return min(1.0, step_s * (step_w / self.cap_w - 1.0))


def batch_policy_for(
    *, intensity_g_per_kwh: float | None, cap_w: float | None, max_batch: int, max_wait_s: float, draw_w: float = 0.0
) -> BatchPolicy:
    """From `answer at once`, when clean and below the cap, to the full wait when dirty or far above it.

    `draw_w`: mean power of steps so far, 0 where unknown. Above the cap, the share of the time that must be idle
    (1 - cap / draw) is the share of the wait.
    """
    dirt = excess = 0.0
    if intensity_g_per_kwh is not None:
        dirt = (intensity_g_per_kwh - CLEAN_G_PER_KWH) / (DIRTY_G_PER_KWH - CLEAN_G_PER_KWH)
    if cap_w is not None and draw_w > cap_w:
        excess = 1.0 - cap_w / draw_w
    share = min(1.0, max(0.0, dirt, excess))
    min_waiting = max(1, round(share * max_batch))
    return BatchPolicy(min_waiting, share * max_wait_s, max_batch, cap_w, intensity_g_per_kwh)
