"""Real job engines beside a test cluster: JobSet, Kubeflow Trainer and Kueue, built from their Go modules.

Their controllers run on this machine, in the cluster's namespaces; their webhooks are called by URL. What is built, and
each module's CRDs and webhook configurations, lie in a cache folder of their own: a cold build takes minutes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from cluster.kube.build import Builder, cached

if TYPE_CHECKING:
    from cluster.kube.cluster import Cluster

Body = dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """One controller.

    Attributes:
        module, version, package: of its Go module, and of the command in it.
        manifests: where its module keeps its CRDs, and its webhook configuration.
        service: the DNS name that its certificate has.
        groups: API groups whose webhooks are installed: one for a kind that is not there would block it.
        port: of its webhooks; `health` of its readiness.
    """

    name: str
    module: str
    version: str
    package: str
    manifests: tuple[str, str]
    service: str
    groups: tuple[str, ...]
    port: int
    health: int


JOBSET = Engine(
    "jobset", "sigs.k8s.io/jobset", "v0.12.0", "", ("config/components/crd/bases", "config/components/webhook"),
    "jobset-webhook-service.jobset-system.svc", ("jobset.x-k8s.io", ""), 9444, 8082,
)  # fmt: skip
TRAINER = Engine(
    "trainer", "github.com/kubeflow/trainer/v2", "v2.3.0", "cmd/trainer-controller-manager",
    ("manifests/base/crds", "manifests/base/webhook"), "kubeflow-trainer-controller-manager.kubeflow-system.svc",
    ("trainer.kubeflow.org",), 9445, 8083,
)  # fmt: skip
KUEUE = Engine(
    "kueue", "sigs.k8s.io/kueue", "v0.19.2", "cmd/kueue",
    ("config/components/crd/bases", "config/components/webhook"), "kueue-webhook-service.kueue-system.svc",
    ("kueue.x-k8s.io", "batch", "jobset.x-k8s.io", "trainer.kubeflow.org"), 9443, 8081,
)  # fmt: skip
ENGINES = (JOBSET, TRAINER, KUEUE)  # in the order in which they start: Kueue looks at the CRDs that are there


def engine_binaries() -> Path:
    """The folder of the built controllers and their manifests, building them when they are not there yet."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    return cached("engines", recipe, "JobSet, Trainer and Kueue", _build)


def _build(builder: Builder) -> None:
    for engine in ENGINES:
        source = builder.command(f"{engine.name}-controller", engine.module, engine.version, engine.package)
        kept = builder.out / engine.name
        kept.mkdir()
        crds, webhooks = (source / folder for folder in engine.manifests)
        for file in (*sorted(crds.glob("*_*.yaml")), webhooks / "manifests.yaml"):
            shutil.copyfile(file, kept / file.name)


class RunningEngines:
    """The three controllers, installed and running in a cluster; they end with it."""

    def __init__(self, cluster: Cluster, binaries: Path) -> None:
        self.cluster, self.binaries = cluster, binaries
        self.kubectl = cluster.kube
        for engine in ENGINES:
            self._install(engine)

    def _install(self, engine: Engine) -> None:
        folder = self.cluster.folder / engine.name
        (folder / "certs").mkdir(parents=True)
        self._certificate(engine, folder)
        documents = list(_documents(self.binaries / engine.name))
        crds = [self._crd(engine, d) for d in documents if d["kind"] == "CustomResourceDefinition"]
        self.kubectl.apply(*crds)
        for crd in crds:
            self.kubectl.wait("crd", crd["metadata"]["name"], _established, timeout_s=30)
        self.kubectl.namespace(f"{engine.name}-system")
        self._start(engine, folder)
        hooks = [h for d in documents if (h := self._webhooks(engine, d)) is not None]
        self.kubectl.apply(*hooks)

    def _certificate(self, engine: Engine, folder: Path) -> None:
        host = self.cluster.where.host
        pair = self.cluster.pki.certificate(engine.name, f"/CN={engine.name}", [f"IP:{host}", f"DNS:{engine.service}"])
        for file, name in zip(pair, ("tls.crt", "tls.key"), strict=True):
            shutil.copyfile(file, folder / "certs" / name)
        shutil.copyfile(self.cluster.pki.ca, folder / "certs" / "ca.crt")
        # Where controller-runtime looks for a webhook's certificate that it is not told of.
        (folder / "k8s-webhook-server").mkdir()
        (folder / "k8s-webhook-server" / "serving-certs").symlink_to(folder / "certs")

    def _start(self, engine: Engine, folder: Path) -> None:
        config = folder / "config.yaml"
        config.write_text(json.dumps(self._config(engine, folder)))
        flags = [f"--config={config}"]
        if engine is KUEUE:
            flags += ["--feature-gates=VisibilityOnDemand=false", "--zap-log-level=2"]
            metrics = Path("/etc/kueue/metrics/certs")  # the one path that Kueue is not told
            metrics.mkdir(parents=True, exist_ok=True)
            for name in ("tls.crt", "tls.key", "ca.crt"):
                shutil.copyfile(folder / "certs" / name, metrics / name)
        env = {"KUBECONFIG": str(self.cluster.kubeconfig), "TMPDIR": str(folder)}
        self.cluster.parts.start(engine.name, [self.binaries / f"{engine.name}-controller", *flags], env)
        self.cluster.parts.until(f"{engine.name} ready", lambda: _answers(self._health(engine)), 60)

    def _health(self, engine: Engine) -> str:
        return f"{self.cluster.where.host}:{engine.health}"

    def _config(self, engine: Engine, folder: Path) -> Body:
        webhook: Body = {"port": engine.port, "host": self.cluster.where.host}
        config: Body = {
            "kind": "Configuration",
            "health": {"healthProbeBindAddress": self._health(engine)},
            "metrics": {"bindAddress": "0"},
            "leaderElection": {"leaderElect": False},
        }
        if engine is TRAINER:
            return config | {
                "apiVersion": "config.trainer.kubeflow.org/v1alpha1",
                "webhook": webhook,
                "certManagement": {"enable": False},
                "statusServer": {"port": 10445},
            }
        config |= {"webhook": webhook | {"certDir": str(folder / "certs")}, "internalCertManagement": {"enable": False}}
        if engine is JOBSET:
            return config | {"apiVersion": "config.jobset.x-k8s.io/v1alpha1"}
        frameworks = ["batch/job", "jobset.x-k8s.io/jobset", "trainer.kubeflow.org/trainjob"]
        return config | {
            "apiVersion": "config.kueue.x-k8s.io/v1beta2",
            "integrations": {"frameworks": frameworks},
        }

    def _client(self, engine: Engine, path: str) -> Body:
        ca = base64.b64encode(self.cluster.pki.ca.read_bytes()).decode()
        return {"url": f"https://{self.cluster.where.host}:{engine.port}{path}", "caBundle": ca}

    def _crd(self, engine: Engine, crd: Body) -> Body:
        if len(crd["spec"]["versions"]) > 1:
            webhook = {"conversionReviewVersions": ["v1"], "clientConfig": self._client(engine, "/convert")}
            crd["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
        return crd

    def _webhooks(self, engine: Engine, document: Body) -> Body | None:
        if not document["kind"].endswith("WebhookConfiguration"):
            return None
        kept = []
        for hook in document["webhooks"]:
            if {group for rule in hook["rules"] for group in rule["apiGroups"]} <= set(engine.groups):
                path = hook["clientConfig"]["service"]["path"]
                kept.append(hook | {"clientConfig": self._client(engine, path)})
        name = f"{engine.name}-{document['metadata']['name']}"
        return document | {"metadata": {"name": name}, "webhooks": kept} if kept else None


def _documents(folder: Path) -> Iterator[Body]:
    for file in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document:
                yield document


def _established(crd: Body) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _answers(address: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
