"""The planner: `plan(fleet, forecasts, now)` chooses regions and hours; pure, deterministic, the only one there is."""

from windward.planning.planner import plan

__all__ = ["plan"]
