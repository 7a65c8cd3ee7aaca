"""Many jobs that compete for capacity: prices, placement and search over arrays (docs/planning.md)."""

from windward.planning.arrays.instance import Instance
from windward.planning.arrays.solve import Budget, Solution, solve

__all__ = ["Budget", "Instance", "Solution", "solve"]
