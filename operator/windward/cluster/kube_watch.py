"""Follows lists of objects: each once as it stands, then each change, until told to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from windward.cluster.kube_api import Api
from windward.cluster.port import ClusterError, NotFound

log = logging.getLogger(__name__)
WATCH_S = 300
ABSENT_S = 60.0  # a kind that the cluster does not know is looked for again after so long


def follow(
    api: Api, paths: Sequence[str], selector: str, stop: threading.Event, heard: Callable[[list[dict[str, Any]]], None]
) -> None:
    """Calls `heard` with what is listed, and with each object that changes, until `stop` is set.

    Args:
        paths: several are followed in turn, in short watches; what falls between is in the next list.
    """
    while not stop.is_set():
        try:
            for path in paths:
                _follow_once(api, path, WATCH_S if len(paths) < 2 else 5, selector, stop, heard)
        except NotFound:
            stop.wait(ABSENT_S)
        except ClusterError as e:
            log.info("%s; watching again", e)
            stop.wait(2.0)
        except Exception:  # whatever one object holds, the watch of all others goes on
            log.exception("watching again")
            stop.wait(2.0)


def _follow_once(
    api: Api,
    path: str,
    seconds: int,
    selector: str,
    stop: threading.Event,
    heard: Callable[[list[dict[str, Any]]], None],
) -> None:
    listed = api.get(path, labelSelector=selector)
    heard(listed.get("items") or [])
    version = listed["metadata"]["resourceVersion"]
    for kind, body in api.watch(path, seconds, labelSelector=selector, resourceVersion=version):
        if stop.is_set():
            return
        if kind != "BOOKMARK":
            heard([body])
