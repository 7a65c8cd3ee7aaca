"""A real Kubernetes for the tests: built from Go modules, started on one machine, gone without a trace afterwards.

`build` makes the binaries, `Cluster` starts a control plane and joins nodes to it, `Kube` is what a test talks through.
Nothing here knows of Windward but `image`, which lends the nodes our chart's image names.
"""

from cluster.kube.build import Unavailable, binaries
from cluster.kube.client import Kube, Refused
from cluster.kube.cluster import Cluster, ExistingCluster
from cluster.kube.engines import RunningEngines, engine_binaries
from cluster.kube.helm import Helm

__all__ = [
    "Cluster",
    "ExistingCluster",
    "Helm",
    "Kube",
    "Refused",
    "RunningEngines",
    "Unavailable",
    "binaries",
    "engine_binaries",
]
