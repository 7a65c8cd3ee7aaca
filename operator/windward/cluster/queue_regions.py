"""Which queue leads to which region. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from windward.cluster.kueue import queue_of
from windward_api.managed import PREFIX, ManagedWorkload


@dataclass(frozen=True, slots=True)
class QueueRegions:
    """LocalQueues by the GreenRegions that name them.

    Attributes:
        of_region: region -> name of its LocalQueues.
    """

    of_region: Mapping[str, str]

    def words_of(self, body: Mapping[str, Any]) -> dict[str, str]:
        """Returns the region of an object's queue as its word, where no other says one; empty where no region names
        that queue."""
        regions = [region for region, queue in self.of_region.items() if queue == queue_of(body)]
        return {"regions": regions[0]} if len(regions) == 1 else {}

    def checked(self, job: ManagedWorkload) -> ManagedWorkload:
        """Returns a workload that can be sent to each region that it names.

        Raises:
            ValueError: it names several, and it has no queue, or one of them has none.
        """
        regions = job.spec.placement.regions
        if len(regions) < 2:
            return job
        field = f"annotation {PREFIX}regions"
        if not job.queue:
            raise ValueError(
                f"{field}: what has no queue stays where its nodes are: name one region, or give it a queue"
            )
        if without := [name for name in regions if name not in self.of_region]:
            names = ", ".join(without)
            raise ValueError(f"{field}: no queue leads to {names}: set spec.queue of that GreenRegion, or leave it out")
        return job
