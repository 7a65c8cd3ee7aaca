"""Extends an issue beyond its horizon: by our own forecast where enough history is known, else by the day before."""

from __future__ import annotations

from datetime import datetime

from windward.domain.clock import utc
from windward.domain.series import Series
from windward.forecasting.blend import blend
from windward.forecasting.gaps import filled
from windward.forecasting.model import FIRST_FIT, Model
from windward.forecasting.past import HOUR_S
from windward.forecasting.tail import repeated


def extend(history: Series | None, issue: Series, until: datetime, *, model: Model | None = None) -> Series:
    """Extend `issue` by an estimate up to `until`.

    With eight weeks of actuals in `history`, or a `model` trained on as much, the issue is nowcast and followed by our
    own forecast (`blend`), with `own:...` in the source. Else the same hour of the day before is repeated: from the
    actuals where they reach, else from the issue itself, so that an issue of 24 hours or more needs no history.

    Args:
        model: a trained model of the zone; without it one is trained on `history`, about a second for a year.

    Returns:
        The series from the issue's start to the end of the period that contains `until`; added periods are
        `estimated`. The issue itself where not even the day before is known.

    Raises:
        MixedKinds: zone or kind of the two differ.
    """
    if utc(until) <= issue.end:
        return issue
    history = None if history is None else filled(history)
    if history is not None and _enough(history, model) and issue.start <= history.end < utc(until):
        learnt = model or Model.of(history)
        own = learnt.forecast(history, history.end, until)
        if own.method != "day-before" and own.series.start <= issue.end:
            return blend(issue, history, own.series)
    return repeated(history, issue, until)


def _enough(history: Series, model: Model | None) -> bool:
    return (model is not None and model.learnt > 0) or history.edges[-1] - history.edges[0] >= FIRST_FIT * HOUR_S
