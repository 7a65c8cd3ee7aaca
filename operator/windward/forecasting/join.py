"""Joins two consecutive series."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from windward.domain.series import MixedKinds, Series


def joined(earlier: Series, later: Series) -> Series:
    """Returns `earlier` up to the start of `later`, then `later`; source, issue and fetch time are those of `later`.

    Raises:
        MixedKinds: zone or kind differ.
        ValueError: there is a gap between the two.
    """
    if (earlier.zone, earlier.kind) != (later.zone, later.kind):
        raise MixedKinds(f"cannot join {earlier.zone} ({earlier.kind}) with {later.zone} ({later.kind})")
    i = int(np.searchsorted(earlier.edges, later.edges[0], side="left"))
    if i == 0:
        return later
    if earlier.edges[i if i < len(earlier.edges) else -1] < later.edges[0]:
        raise ValueError(f"{earlier.zone}: gap between {earlier.end} and {later.start}")
    return replace(
        later,
        edges=np.concatenate([earlier.edges[:i], later.edges]),
        intensity_g_per_kwh=np.concatenate([earlier.intensity_g_per_kwh[:i], later.intensity_g_per_kwh]),
        quality=earlier.quality[:i] + later.quality,
        demo=earlier.demo or later.demo,
    )
