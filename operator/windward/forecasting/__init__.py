"""Thinkers about intensity: layers of knowledge in one series, and persistence where no forecast reaches. Pure."""

from windward.forecasting.overlay import overlay
from windward.forecasting.tail import extend, same_hour_yesterday

__all__ = ["extend", "overlay", "same_hour_yesterday"]
