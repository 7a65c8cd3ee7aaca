"""kopf handlers: they watch our objects and wake the controller. Level-triggered: the content of an event is unused."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import kopf

from windward.service.loop import Loop
from windward.service.watch_monitor import WatchMonitor


def register(registry: kopf.OperatorRegistry, loop: Loop, watch_monitor: WatchMonitor) -> None:
    """Registers handlers for the three kinds. `on.event` adds no finalizers and no annotations."""

    async def seen(meta: kopf.Meta, **_: Any) -> None:
        watch_monitor.delivered(str(meta.get("uid", "")), str(meta.get("resourceVersion", "")))
        loop.wake()

    kopf.on.login(registry=registry)(login)
    for plural in ("greenjobs", "greencronjobs", "greenregions"):
        kopf.on.event("windward.dev", "v1alpha1", plural, registry=registry)(seen)


def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Returns the credentials of the pod, read at each login, so that a rotated token replaces a refused one.

    Takes the server from the service environment; kopf's own login needs the cluster's DNS.
    """
    connection = kopf.login_with_service_account(**kwargs)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if connection is None or not host:
        return connection or kopf.login_with_kubeconfig(**kwargs)
    name = f"[{host}]" if ":" in host else host
    return dataclasses.replace(connection, server=f"https://{name}:{port}")


def configure(settings: kopf.OperatorSettings) -> None:
    """Configures kopf to watch only: see `docs/decisions/0003-kopf-enqueues-controller-decides.md`."""
    settings.posting.enabled = False  # events are ours, one per transition
    settings.scanning.disabled = True  # no right to list CRDs or namespaces is needed
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.queueing.worker_limit = 50
    settings.queueing.idle_timeout = 0.2
    settings.persistence.consistency_timeout = 0
    settings.persistence.finalizer = "windward.dev/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="windward.dev")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="windward.dev")
