"""Hands: everything that runs, behind one `Cluster` port; Kubernetes and local processes are its two forms."""

from windward.cluster.port import AttemptConflict, BadObject, Cluster, ClusterError, Refused, Snapshot

__all__ = ["AttemptConflict", "BadObject", "Cluster", "ClusterError", "Refused", "Snapshot"]
