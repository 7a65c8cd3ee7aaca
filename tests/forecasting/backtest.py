"""Back-tests of `Model`: forecasts at many origins at once, each from the hours before it."""

import numpy as np

from windward.domain.series import Floats, Series
from windward.forecasting.calibrate import EVERY
from windward.forecasting.model import Model
from windward.forecasting.past import FIRST_ORIGIN, Ints


def paths_g_per_kwh(model: Model, history: Series, origins: Ints) -> tuple[Floats, Floats | None]:
    """Forecasts at many origins by the present coefficients.

    Args:
        origins: (n,) hours since the epoch, none before the last hour that the model is trained on.

    Returns:
        (n, LEADS) g/kWh, and quantiles (len(LEVELS), n, LEADS), or None where the model has none yet.
    """
    seen = model._seen(history)
    at = np.asarray(origins, dtype=np.int64) - model.first_hour
    assert (
        seen is not None and np.all(at >= max(model.learnt, FIRST_ORIGIN)) and np.all(at <= len(seen.values_g_per_kwh))
    )
    past, quantiles = seen._past(), None
    if seen.learnt:
        recorded = np.arange(seen.learnt, int(np.max(at)) + 1, EVERY)
        _, issued = seen.record.noted(past, seen._paths(past, recorded))
        quantiles = None if issued is None else issued[(at - seen.learnt) // EVERY].transpose(1, 0, 2)
    return seen._unlogged(seen._paths(past, at), quantiles)
