"""Everything that runs, behind one `Cluster` port, with two implementations: Kubernetes and local processes."""

from windward.cluster.port import AttemptConflict, BadObject, Cluster, ClusterError, Refused, Snapshot

__all__ = ["AttemptConflict", "BadObject", "Cluster", "ClusterError", "Refused", "Snapshot"]
