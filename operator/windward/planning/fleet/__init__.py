"""Many jobs that compete for capacity: prices, placement and search over arrays (docs/planning.md)."""

from windward.planning.fleet.instance import Instance
from windward.planning.fleet.solve import Budget, Solution, solve

__all__ = ["Budget", "Instance", "Solution", "solve"]
