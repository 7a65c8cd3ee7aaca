"""Windward's control plane: plans, starts, pauses and accounts for the work of GreenJobs."""

__version__ = "0.1.0"
