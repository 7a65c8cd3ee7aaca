"""The planner: `plan(fleet, forecasts, now)` chooses regions and hours; pure, deterministic, the only one there is."""

from windward.planning.budget import Kept, plan_within
from windward.planning.fleet.kernels import prefer_compiled
from windward.planning.planner import plan

__all__ = ["Kept", "plan", "plan_within", "prefer_compiled"]
