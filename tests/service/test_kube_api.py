"""Requests to an API server: pages, errors with the server's own sentence, watches that end or break."""

import json

import pytest
from kubernetes.client import ApiClient, Configuration
from werkzeug import Response

from windward.cluster.kube_api import Api, error_of, message_of
from windward.cluster.port import AttemptConflict, ClusterError, NotFound, Refused, Unavailable

STATUS = {"kind": "Status", "message": 'greenjobs "x" is not what it was'}


@pytest.fixture
def api(httpserver):
    configuration = Configuration()
    configuration.host, configuration.retries = httpserver.url_for("").rstrip("/"), False
    return Api(ApiClient(configuration))


def test_a_list_is_read_page_by_page(api, httpserver):
    first = {"items": [{"n": 1}, {"n": 2}], "metadata": {"continue": "more"}}
    httpserver.expect_ordered_request("/x", query_string={"limit": "500"}).respond_with_json(first)
    query = {"limit": "500", "continue": "more"}
    httpserver.expect_ordered_request("/x", query_string=query).respond_with_json({"items": [{"n": 3}], "metadata": {}})
    assert [item["n"] for item in api.items("/x")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFound), (409, AttemptConflict), (400, Refused), (401, Refused), (403, Refused), (422, Refused),
     (429, Unavailable), (500, Unavailable), (503, Unavailable)],
)  # fmt: skip
def test_an_error_is_the_port_s_with_the_server_s_sentence(api, httpserver, status, kind):
    httpserver.expect_request("/x").respond_with_json(STATUS, status=status)
    with pytest.raises(kind, match="is not what it was") as raised:
        api.get("/x")
    assert isinstance(raised.value, ClusterError)


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"", b"[1]", b"{}", b"\xff"])
def test_an_answer_that_is_no_status_is_still_an_error(body):
    assert isinstance(error_of(502, body, "/x"), Unavailable) and isinstance(message_of(body), str)


def test_a_deletion_may_be_of_one_very_object(api, httpserver):
    httpserver.expect_request("/x", method="DELETE", json={"preconditions": {"uid": "u"}}).respond_with_json({})
    assert api.delete("/x", uid="u") == {}


def test_a_patch_says_its_type(api, httpserver):
    headers = {"Content-Type": "application/merge-patch+json"}
    httpserver.expect_request("/x", method="PATCH", headers=headers, json={"a": 1}).respond_with_json({"a": 1})
    assert api.patch("/x", {"a": 1}) == {"a": 1}


def test_a_watch_gives_its_events_and_ends_with_the_server(api, httpserver):
    lines = [{"type": "ADDED", "object": {"n": 1}}, {"type": "BOOKMARK", "object": {}}]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    httpserver.expect_request("/x").respond_with_data(body)
    assert list(api.watch("/x", 1)) == [("ADDED", {"n": 1}), ("BOOKMARK", {})]


@pytest.mark.parametrize(
    "body", ['{"type": "ERROR", "object": {"message": "too old resource version"}}\n', "not json\n"]
)
def test_a_broken_watch_is_an_error_and_no_end(api, httpserver, body):
    httpserver.expect_request("/x").respond_with_data(body)
    with pytest.raises(Unavailable, match="watch of /x"):
        list(api.watch("/x", 1))


def test_a_server_that_is_not_there_is_unavailable(api, httpserver):
    httpserver.expect_request("/x").respond_with_response(Response(status=200))
    httpserver.stop()
    try:
        with pytest.raises(Unavailable, match="GET /x"):
            api.get("/x")
    finally:
        httpserver.start()
