"""The commands against an API server: whose namespace, which context, which path; a small server plays the cluster."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

API = "/apis/windward.dev/v1alpha1"
SPEC = {"completeWithin": "18h", "duration": "4h", "placement": {"regions": ["here"]}, "train": {"steps": 1}}
HOSTILE = "\x1b]52;c;eA==\x07"


def job(namespace: str, name: str) -> dict[str, object]:
    status = {"summary": {"state": "Waiting", "reason": "CleanerWindow", "saved": "~-0 %"}, "conditions": [
        {"type": "Admitted", "status": "False", "reason": "WaitingForWindow",
         "message": f"to start at once: windward run-now {name}{HOSTILE}"}]}  # fmt: skip
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"{namespace}-{name}",
        "creationTimestamp": "2022-05-11T15:00:00Z",
    }
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": metadata,
        "spec": SPEC,
        "status": status,
    }


class Cluster:
    """Jobs by (namespace, name), and what was asked."""

    def __init__(self) -> None:
        self.jobs = {(n, "night"): job(n, "night") for n in ("default", "ml", "team")}
        self.asked: list[tuple[str, str, object]] = []

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        path = path.partition("?")[0]
        self.asked.append((method, path, json.loads(body) if body else None))
        if path.endswith("/events"):
            return 200, {
                "items": [{"eventTime": "2022-05-11T15:00:00Z", "reason": "Planned", "message": "so", "type": "Normal"}]
            }
        parts = path.removeprefix(API).strip("/").split("/")
        if parts == ["greenjobs"] or parts[2:] == ["greenjobs"]:
            return 200, {"items": [j for (n, _), j in self.jobs.items() if len(parts) == 1 or n == parts[1]]}
        if method == "PATCH" and parts[0] == "greenregions":
            return 200, {}
        key = (parts[1], parts[3])
        if key not in self.jobs and method != "PATCH":
            return 404, {"message": f"{key} not found"}
        if method == "DELETE":
            return 200, self.jobs.pop(key)
        return 200, self.jobs.get(key, {})


@pytest.fixture
def cluster(tmp_path):
    made = Cluster()

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, answer = made.answer(self.command, self.path, body)
            raw = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_PATCH = do_DELETE = reply

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    contexts = [("plain", {}), ("ours", {"namespace": "team"})]
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "plain", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": n, "context": {"cluster": "c", "user": "u", **more}} for n, more in contexts],
    }  # fmt: skip
    made.kubeconfig = str(tmp_path / "config")
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    yield made
    server.shutdown()
    server.server_close()


def at(cluster, *more):
    return ("--cluster", "--kubeconfig", cluster.kubeconfig, *more)


WHERE = [
    ((), "default"),
    (("--context", "ours"), "team"),
    (("-n", "ml"), "ml"),
    (("--context", "ours", "-n", "ml"), "ml"),
]


@pytest.mark.parametrize(("more", "namespace"), WHERE, ids=[" ".join(w[0]) or "plain" for w in WHERE])
@pytest.mark.parametrize("verb", ["why", "run-now", "hold", "release", "cancel"])
def test_a_job_is_looked_for_in_the_namespace_that_kubectl_would_mean(windward, cluster, verb, more, namespace):
    told = windward(verb, "night", *at(cluster, *more))
    assert told.code == 0, told.err
    paths = {p for _, p, _ in cluster.asked if "/events" not in p}
    assert paths == {f"{API}/namespaces/{namespace}/greenjobs/night"}
    if verb == "cancel":
        assert (namespace, "night") not in cluster.jobs


def test_what_why_suggests_works_from_here(windward, cluster):
    told = windward("why", "night", *at(cluster, "-n", "ml"))
    suggestion = f"windward run-now night -n ml --cluster --kubeconfig {cluster.kubeconfig}"
    assert told.out.count(suggestion) == 2 and "\x1b" not in told.out
    cluster.asked.clear()
    assert windward(*suggestion.split()[1:]).code == 0
    patched = [body for method, _, body in cluster.asked if method == "PATCH"]
    assert patched == [{"metadata": {"annotations": {"windward.dev/run-now": "true"}}}]


def test_list_shows_all_namespaces_or_one(windward, cluster):
    out = windward("list", *at(cluster)).out
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["default", "ml", "team"] and "-0 %" not in out
    assert len(windward("list", *at(cluster, "-n", "ml")).out.splitlines()) == 2


APPLY = [((), "default"), (("--context", "ours"), "team"), (("-n", "ml"), "ml")]


@pytest.mark.parametrize(("more", "namespace"), APPLY, ids=[" ".join(a[0]) or "plain" for a in APPLY])
def test_apply_goes_to_the_same_namespace(windward, cluster, tmp_path, more, namespace):
    file = tmp_path / "job.yaml"
    region = {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenRegion",
        "metadata": {"name": "here"},
        "spec": {"gridZone": "GB"},
    }
    fresh = {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenJob", "metadata": {"name": "new"}, "spec": SPEC}
    file.write_text(yaml.safe_dump_all([fresh, region]))
    told = windward("apply", "-f", str(file), *at(cluster, *more), "-o", "json")
    assert told.code == 0, told.err
    assert [p for m, p, _ in cluster.asked if m == "PATCH"] == [
        f"{API}/greenregions/here", f"{API}/namespaces/{namespace}/greenjobs/new",
    ]  # fmt: skip
    assert [i["name"] for i in told.json()["items"]] == ["here", "new"]
    assert f"next: windward why new{'' if namespace == 'default' else f' -n {namespace}'} --cluster" in told.err


def test_a_file_that_names_another_namespace_is_refused(windward, cluster, tmp_path):
    file = tmp_path / "job.yaml"
    named = {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": "new", "namespace": "ml"},
        "spec": SPEC,
    }
    file.write_text(yaml.safe_dump(named))
    told = windward("apply", "-f", str(file), *at(cluster, "-n", "team"))
    assert told.code == 2 and "names namespace ml, not team" in told.err
    assert not [m for m, _, _ in cluster.asked if m == "PATCH"]


def test_a_namespace_that_the_file_names_is_kept(windward, cluster, tmp_path):
    """`default` too, whatever the context says."""
    file = tmp_path / "job.yaml"
    meta = {"name": "new", "namespace": "default"}
    file.write_text(
        yaml.safe_dump({"apiVersion": "windward.dev/v1alpha1", "kind": "GreenJob", "metadata": meta, "spec": SPEC})
    )
    assert windward("apply", "-f", str(file), *at(cluster, "--context", "ours")).code == 0
    assert [p for m, p, _ in cluster.asked if m == "PATCH"] == [f"{API}/namespaces/default/greenjobs/new"]


def managed(name: str, annotations: dict[str, str]) -> dict[str, object]:
    words = {"duration": "1h", "complete-within": "8h", "regions": "here", **annotations}
    meta = {
        "name": name, "namespace": "ml", "uid": f"ml-{name}", "creationTimestamp": "2022-05-11T15:00:00Z",
        "labels": {"windward.dev/managed": "true"},
        "annotations": {f"windward.dev/{word}": text for word, text in words.items()},
    }  # fmt: skip
    return {"metadata": meta, "spec": {"suspend": True, "template": {"spec": {"containers": [{"name": "c"}]}}}}


@pytest.fixture
def with_managed(cluster, monkeypatch):
    """The cluster with a managed Job that can be read and one that cannot."""
    jobs = [managed("night", {}), managed("odd", {"duration": "soon"})]
    real = cluster.answer

    def answer(method: str, path: str, body: bytes) -> tuple[int, object]:
        plain = path.partition("?")[0]
        if plain.startswith("/apis/batch/v1") and method == "GET":
            return 200, {"items": jobs}
        if plain.startswith("/api/v1/namespaces") and not plain.endswith("/events"):
            return 200, {"items": [], "metadata": {"name": "ml"}}  # none has the label
        if plain.startswith(("/apis/jobset", "/apis/trainer")):
            return 404, {"message": "the server could not find the requested resource"}
        if plain.startswith("/apis/batch/v1"):
            cluster.asked.append((method, plain, json.loads(body) if body else None))
            return 200, {}
        return real(method, path, body)

    monkeypatch.setattr(cluster, "answer", answer)
    return cluster


def test_managed_workloads_stand_in_the_list_by_kind_and_name(with_managed, windward):
    out = windward("list", *at(with_managed)).out
    assert "job/night" in out
    assert [line.split()[2] for line in out.splitlines() if "job/odd" in line] == ["Refused"]


def test_why_and_changes_name_a_managed_workload_by_its_kind(with_managed, windward):
    assert "ml/job/night" in windward("why", "job/night", *at(with_managed, "-n", "ml")).out
    for verb, words in (
        ("run-now", {"windward.dev/run-now": "true"}),
        ("hold", {"windward.dev/suspend": "true"}),
        ("release", {"windward.dev/suspend": None}),
    ):
        with_managed.asked.clear()
        assert windward(verb, "ml/job/night", *at(with_managed)).code == 0
        (patch,) = [a for a in with_managed.asked if a[0] == "PATCH"]
        assert patch[1:] == ("/apis/batch/v1/namespaces/ml/jobs/night", {"metadata": {"annotations": words}})


def test_what_is_no_greenjob_is_not_deleted(with_managed, windward):
    refused = windward("cancel", "job/night", *at(with_managed, "-n", "ml"))
    assert refused.code == 2
    assert "kubectl -n ml delete job/night" in refused.err
