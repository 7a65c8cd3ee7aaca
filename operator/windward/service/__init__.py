"""Wiring: the controller's loop, the operator's handlers and ticks, health, metrics, settings, and the local world."""
