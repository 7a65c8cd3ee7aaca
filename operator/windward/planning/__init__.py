"""Where and when work runs: `plan`, a pure function of a fleet, forecasts and the time."""

from windward.planning.arrays.kernels import prefer_compiled
from windward.planning.planner import plan

__all__ = ["plan", "prefer_compiled"]
