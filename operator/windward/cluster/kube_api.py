"""Plain requests to the API server: JSON in, JSON out, errors as the port's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException

from windward.cluster.port import AttemptConflict, ClusterError, NotFound, Refused, Unavailable

Body = dict[str, Any]
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
PAGE = 500
TIMEOUT_S = (5, 20)  # connect, read


def connect(kubeconfig: str | None = None, context: str | None = None) -> ApiClient:
    """A client for the pod's own service account, or for a kubeconfig.

    Raises:
        Unavailable: neither is there.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None and context is None:
            try:
                config.load_incluster_config(client_configuration=configuration)
                return ApiClient(configuration)
            except config.ConfigException:
                pass
        config.load_kube_config(kubeconfig, context, client_configuration=configuration)
    except (config.ConfigException, OSError) as e:
        raise Unavailable(f"no cluster to talk to: {e}") from e
    return ApiClient(configuration)


class Api:
    """Requests by path. Safe for several threads."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def get(self, path: str, **query: str) -> Body:
        return self._json("GET", path, query=query)

    def items(self, path: str, **query: str) -> list[Body]:
        """All items of a list, page by page, from etcd itself (no resourceVersion: never an old view)."""
        out: list[Body] = []
        more = ""
        while True:
            page = self._json("GET", path, query={**query, "limit": str(PAGE), **({"continue": more} if more else {})})
            out += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return out

    def post(self, path: str, body: Mapping[str, Any]) -> Body:
        return self._json("POST", path, body=body)

    def patch(self, path: str, body: Any, content_type: str = MERGE, **query: str) -> Body:
        return self._json("PATCH", path, body=body, content_type=content_type, query=query)

    def delete(self, path: str, uid: str = "", **query: str) -> Body:
        """Deletes an object; with `uid`, only if it still is that one."""
        body = {"preconditions": {"uid": uid}} if uid else None
        return self._json("DELETE", path, query=query, body=body)

    def watch(self, path: str, seconds: int, **query: str) -> Iterator[tuple[str, Body]]:
        """(type, object) of a watch that the server ends after `seconds`.

        Raises:
            Unavailable: it broke, or the server said ERROR.
        """
        query = {**query, "watch": "1", "timeoutSeconds": str(seconds), "allowWatchBookmarks": "true"}
        response = self._call("GET", path, query, None, None, (5, seconds + 10))
        rest = b""
        try:
            for chunk in response.stream(amt=None):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise Unavailable(f"watch of {path}: {event['object'].get('message')}")
                    yield event["type"], event["object"]
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as e:
            raise Unavailable(f"watch of {path} broke: {e}") from e
        finally:
            response.close()

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str | None = None,
    ) -> Body:
        response = self._call(method, path, query or {}, body, content_type, TIMEOUT_S)
        out: Body = json.loads(response.data or b"{}")
        return out

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        content_type: str | None,
        timeout: tuple[int, int],
    ) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type or "application/json"
        request = self._client.param_serialize(
            method=method,
            resource_path=path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._client.call_api(*request, _request_timeout=timeout)
        except ApiException as e:
            raise error_of(e.status, e.body or e.reason or "", path) from e
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise Unavailable(f"{method} {path}: {e}") from e
        if not 200 <= response.status < 300:
            raise error_of(response.status, response.read(), path)
        return response.response


def error_of(status: int | None, body: bytes | str, path: str) -> ClusterError:
    """The port's error for an HTTP status, with the server's own sentence."""
    message = message_of(body) or f"HTTP {status}"
    match status:
        case 404:
            return NotFound(message)
        case 409:
            return AttemptConflict(message)
        case 400 | 401 | 403 | 422:
            return Refused(message)
        case _:
            return Unavailable(f"{path}: HTTP {status}: {message}")


def message_of(body: bytes | str) -> str:
    """The message of a Status object."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        text = body.decode(errors="replace") if isinstance(body, bytes) else body
        return text[:300]
