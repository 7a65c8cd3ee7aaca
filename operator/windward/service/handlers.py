"""kopf's part: it watches our objects and wakes the controller. Level-triggered: that something happened matters, not
what."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import kopf

from windward.service.loop import Loop
from windward.service.watch_monitor import WatchMonitor


def register(registry: kopf.OperatorRegistry, loop: Loop, watch_monitor: WatchMonitor) -> None:
    """Handlers for the three kinds. `on.event` leaves no finalizer and no annotation on anything."""

    async def seen(meta: kopf.Meta, **_: Any) -> None:
        watch_monitor.delivered(str(meta.get("uid", "")), str(meta.get("resourceVersion", "")))
        loop.wake()

    kopf.on.login(registry=registry)(login)
    for plural in ("greenjobs", "greencronjobs", "greenregions"):
        kopf.on.event("windward.dev", "v1alpha1", plural, registry=registry)(seen)


def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Credentials of the pod, read anew at each login, so that a rotated token is taken up when the old one is refused.

    The server is the one that the service environment names: kopf's own login asks the cluster's DNS for it.
    """
    connection = kopf.login_with_service_account(**kwargs)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if connection is None or not host:
        return connection or kopf.login_with_kubeconfig(**kwargs)
    name = f"[{host}]" if ":" in host else host
    return dataclasses.replace(connection, server=f"https://{name}:{port}")


def configure(settings: kopf.OperatorSettings) -> None:
    """kopf as a quiet watcher: see `docs/decisions/0003-kopf-enqueues-controller-decides.md`."""
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
