"""A second engine, for tests: a `Workload` of example.dev says itself how its run is; no Job is behind it."""

from dataclasses import replace

from windward.cluster.engines.port import Resource, Rights
from windward.domain.run import Phase
from windward.lifecycle.work import demand_of
from windward.manifests.pod import labels_of, owner_reference, pod_template

ASKED_FOR = "example.dev/workload"  # annotation of a GreenJob that this engine runs


class WorkloadEngine:
    """See `Engine`."""

    pod_owners = ("Workload",)
    resource = Resource("example.dev", "v1", "workloads", "Workload")
    rights = (Rights("example.dev", "workloads", ("create", "get", "list", "patch")),)

    def accepts(self, job):
        return ASKED_FOR in job.metadata.annotations

    def demand(self, spec):
        return {**demand_of(spec), "pods": 2.0}

    def render(self, facts, runtime):
        return {
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": {
                "name": facts.name,
                "namespace": facts.job.metadata.namespace,
                "labels": labels_of(facts),
                "ownerReferences": [owner_reference(facts)],
            },
            "spec": {"paused": False, "template": pod_template(facts, runtime)},
        }

    def observe(self, attempt):
        child = attempt.child or {"spec": {"paused": True}}
        phase = Phase(child.get("status", {}).get("phase", "Starting"))
        paused = child["spec"]["paused"]
        if paused and phase.live:
            phase = Phase.STOPPING if attempt.pods else Phase.PAUSED
        return replace(attempt.run, phase=phase, pause_requested=paused)

    def pause(self, api, job, child, now):
        api.patch(self.resource.path(job.metadata.namespace, child["metadata"]["name"]), {"spec": {"paused": True}})
