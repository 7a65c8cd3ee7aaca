"""Kubernetes Events about an object: one for each sentence and minute."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from windward.cluster.kube_api import Api
from windward.cluster.port import AttemptConflict, NotFound, Refused, Unavailable
from windward.domain.observed import Event
from windward_api.greenjob import GreenJob
from windward_api.scalars import format_time

log = logging.getLogger(__name__)


def emit(api: Api, about: Mapping[str, Any], event: Event, at: datetime) -> None:
    """Writes one Event; the same sentence within the same minute has the same name and is told once.

    Args:
        about: the object, as an `ObjectReference`; see `reference_to`.
    """
    namespace, name, stamp = about["namespace"], about["name"], format_time(at)
    sentence = f"{about['uid']}{event.reason}{event.message}{at:%Y%m%d%H%M}"
    digest = hashlib.sha256(sentence.encode()).hexdigest()[:16]
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name[:200].rstrip('-.')}.{digest}", "namespace": namespace},
        "involvedObject": dict(about),
        "reason": event.reason,
        "message": event.message,
        "type": "Warning" if event.warning else "Normal",
        "source": {"component": "windward"},
        "reportingComponent": "windward.dev/operator",
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
    try:
        api.post(f"/api/v1/namespaces/{namespace}/events", body)
    except AttemptConflict:
        pass
    except (Refused, Unavailable, NotFound) as e:
        log.warning("event %s for %s/%s was not written: %s", event.reason, namespace, name, e)


def reference_to(job: GreenJob) -> dict[str, str]:
    """Returns the reference of an Event to the object that a job stands in."""
    meta = job.metadata
    return {
        "apiVersion": job.object_api_version,
        "kind": job.object_kind,
        "name": meta.name,
        "namespace": meta.namespace,
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
    }
