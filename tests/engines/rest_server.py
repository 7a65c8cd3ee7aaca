"""An API server on 127.0.0.1 that keeps objects as JSON: enough for what `KubernetesCluster` asks, which it notes.

It has no controllers: a test puts pods and statuses there itself.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import ApiClient, Configuration

from windward.cluster.kube_api import Api

Body = dict[str, Any]
PATH = re.compile(r"/(?:api/v1|apis/([^/]+)/[^/]+)(?:/namespaces/([^/]+))?/([^/]+)(?:/([^/]+))?(?:/(status))?")
VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
NOT_FOUND, CONFLICT = 404, 409


class Place(NamedTuple):
    """Where an object is; without a name: a collection."""

    group: str
    resource: str
    namespace: str
    name: str


class Asked(NamedTuple):
    """A request as a Role would allow it."""

    verb: str
    group: str
    resource: str
    name: str


@dataclass
class RestServer:
    """See the module.

    Attributes:
        objects: all there are.
        asked: all requests, in order.
        absent: resources that it does not know.
    """

    objects: dict[Place, Body] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)

    def put(self, group: str, resource: str, body: Body) -> Body:
        meta = body["metadata"]
        place = Place(group, resource, meta.get("namespace", ""), meta["name"])
        body = {**body, "metadata": {"uid": f"{resource}-{meta['name']}", "resourceVersion": "1", **meta}}
        body["metadata"].setdefault("creationTimestamp", "2026-03-02T06:00:00Z")
        self.objects[place] = body
        return body

    def answer(self, method: str, url: str, sent: Any) -> tuple[int, Body]:
        """Performs one request; returns HTTP status and body."""
        parts = urlsplit(url)
        match = PATH.fullmatch(parts.path)
        assert match is not None, url
        group, namespace, resource, name, status = (x or "" for x in match.groups())
        place = Place(group, resource, namespace, name or (sent["metadata"]["name"] if method == "POST" else ""))
        verb = VERBS.get(method) or ("get" if name else "list")
        self.asked.append(Asked(verb, group, f"{resource}/{status}" if status else resource, place.name))
        if resource in self.absent:
            return NOT_FOUND, {"message": "the server could not find the requested resource"}
        if verb == "list":
            return 200, {"items": self._listed(place, parse_qs(parts.query)), "metadata": {"resourceVersion": "1"}}
        if verb == "create":
            return (CONFLICT, {"message": "it exists"}) if place in self.objects else (201, self._new(place, sent))
        if place not in self.objects:
            return NOT_FOUND, {"message": "there is none"}
        if verb == "patch":
            merge(self.objects[place], {"status": sent[0]["value"]} if isinstance(sent, list) else sent)
        elif verb == "delete":
            return self._deleted(place, sent or {})
        return 200, self.objects[place]

    def _new(self, place: Place, sent: Body) -> Body:
        return self.put(place.group, place.resource, sent)

    def _deleted(self, place: Place, sent: Body) -> tuple[int, Body]:
        body = self.objects[place]
        uid = sent.get("preconditions", {}).get("uid")
        if uid is not None and uid != body["metadata"]["uid"]:
            return CONFLICT, {"message": "another one has this name"}
        if place.resource == "pods":  # it has its grace period
            body["metadata"]["deletionTimestamp"] = "2026-03-02T09:00:00Z"
        else:
            del self.objects[place]
        return 200, body

    def _listed(self, place: Place, query: dict[str, list[str]]) -> list[Body]:
        parts = [part.partition("=") for part in query.get("labelSelector", [""])[0].split(",")]
        return [
            body
            for at, body in self.objects.items()
            if at[:2] == place[:2] and place.namespace in ("", at.namespace)
            and all(selected(body["metadata"].get("labels") or {}, key, value) for key, _, value in parts)
        ]  # fmt: skip


def selected(labels: dict[str, str], key: str, value: str) -> bool:
    """Returns whether labels match `key` (any value), `!key` or `key=value`; all do where nothing is asked."""
    if key.startswith("!"):
        return key[1:] not in labels
    return not key or (key in labels and value in ("", labels[key]))


def merge(body: Body, patch: Body) -> None:
    """Applies a JSON merge patch."""
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(body.get(key), dict):
            merge(body[key], value)
        elif value is None:
            body.pop(key, None)
        else:
            body[key] = value


@contextmanager
def serving() -> Iterator[tuple[RestServer, Api]]:
    """Yields a server that is empty, and an `Api` that speaks to it over HTTP."""
    rest = RestServer()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            code, body = rest.answer(self.command, self.path, json.loads(self.rfile.read(length) or b"null"))
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield rest, Api(ApiClient(Configuration(host=f"http://127.0.0.1:{server.server_port}")))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
