"""Carbon intensity forecasts: our own model, its blend with a published issue, several sources in one series. Pure."""

from windward.forecasting.blend import blend, nowcast
from windward.forecasting.extend import extend
from windward.forecasting.gaps import filled
from windward.forecasting.model import Model, Own
from windward.forecasting.overlay import overlay
from windward.forecasting.tail import flat_days, same_hour_yesterday

__all__ = ["Model", "Own", "blend", "extend", "filled", "flat_days", "nowcast", "overlay", "same_hour_yesterday"]
