"""Wiring: the conductor's loop, the operator's handlers and ticks, health, metrics, settings, and the local world."""
