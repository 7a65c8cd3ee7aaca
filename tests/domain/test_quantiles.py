"""Quantiles beside a series: in order, finite, on its periods."""

import numpy as np
import pytest

from windward.domain.quantiles import Quantiles

EDGES = np.array([0.0, 3600, 7200])


def test_levels_are_found_and_equality_is_by_content():
    band = Quantiles(EDGES, (0.1, 0.9), np.array([[1.0, 2], [3, 4]]))
    assert band.at(0.9).tolist() == [3, 4]
    assert band == Quantiles(EDGES.copy(), (0.1, 0.9), np.array([[1.0, 2], [3, 4]])) and len({band, band}) == 1
    assert band != Quantiles(EDGES, (0.1, 0.8), np.array([[1.0, 2], [3, 4]])) and band != 1
    with pytest.raises(ValueError):
        band.at(0.5)


@pytest.mark.parametrize(
    ("edges", "levels", "values"),
    [
        (EDGES, (0.1, 0.9), [[1.0, 2]]),
        (EDGES[::-1], (0.5,), [[1.0, 2]]),
        (EDGES, (0.9, 0.1), [[1.0, 2], [3, 4]]),
        (EDGES, (0.0,), [[1.0, 2]]),
        (EDGES, (0.1, 0.9), [[3.0, 2], [1, 4]]),
        (EDGES, (0.5,), [[-1.0, 2]]),
        (EDGES, (0.5,), [[np.nan, 2]]),
    ],
)
def test_nonsense_is_refused(edges, levels, values):
    with pytest.raises(ValueError):
        Quantiles(edges, levels, np.array(values))
