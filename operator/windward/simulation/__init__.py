"""A year of a fleet in minutes: the operator's own controller, with a clock, a cluster, a meter and arrivals that are
simulated, and faults by seed. What is simulated is the world; what decides is what decides on a cluster."""

from windward.simulation.arrivals import Arrival, from_trace, repeated
from windward.simulation.faults import Faults
from windward.simulation.foresight import Foresight, Publication
from windward.simulation.policies import POLICIES
from windward.simulation.result import Outcome, Result
from windward.simulation.run import simulate

__all__ = [
    "POLICIES",
    "Arrival",
    "Faults",
    "Foresight",
    "Outcome",
    "Publication",
    "Result",
    "from_trace",
    "repeated",
    "simulate",
]
