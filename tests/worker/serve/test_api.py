"""The API over a socket: answers, streams, usage, bounds, tokens, and what a log must not hold."""

import base64
import json
import struct
import threading

import httpx
import pytest
from worker.serve.process import NAME, TOKEN, events, eventually

ASK = {"model": NAME, "prompt": "wind and", "max_tokens": 24, "temperature": 0, "ignore_eos": True}
CHAT = {"model": NAME, "messages": [{"role": "user", "content": "wind"}], "max_tokens": 12, "seed": 5}


def complete(client, **changes):
    response = client.post("/v1/completions", json={**ASK, **changes})
    assert response.status_code == 200, response.text
    return response.json()


def text_of(answer):
    return answer["choices"][0]["text"]


def test_a_completion_has_text_usage_and_a_finish_reason(client):
    made = complete(client)
    assert made["object"] == "text_completion" and made["model"] == NAME and made["id"].startswith("cmpl-")
    assert text_of(made) and made["choices"][0]["finish_reason"] == "length"
    usage = made["usage"]
    assert usage["completion_tokens"] == 24 and usage["total_tokens"] == usage["prompt_tokens"] + 24
    assert usage["joules"] > 0 and usage["method"] in ("modelled", "measured")
    assert "grams" not in usage, "nobody has told an intensity"
    assert made["windward"]["ended"] == "length"
    assert text_of(complete(client)) == text_of(made)


def test_a_chat_answers_as_the_assistant(client):
    made = client.post("/v1/chat/completions", json={**CHAT, "max_completion_tokens": 7, "ignore_eos": True}).json()
    assert made["object"] == "chat.completion" and made["choices"][0]["message"]["role"] == "assistant"
    assert made["usage"]["completion_tokens"] == 7
    parts = [{"type": "text", "text": "wi"}, {"type": "text", "text": "nd"}]
    again = {**CHAT, "messages": [{"role": "user", "content": parts}], "max_tokens": 7, "ignore_eos": True}
    other = client.post("/v1/chat/completions", json=again).json()
    assert other["choices"][0]["message"] == made["choices"][0]["message"], "the same words in parts, the same seed"


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.8, "seed": 3}, {"temperature": 1, "seed": -1, "top_p": 0.5}])
def test_a_stream_is_the_answer_in_parts(client, changes):
    whole = complete(client, max_tokens=200, **changes)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    with client.stream("POST", "/v1/completions", json={**ASK, "max_tokens": 200, **changes, **options}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        parts = events(response)
    assert "".join(text_of(p) for p in parts if p["choices"]) == text_of(whole)
    *_, end, usage = parts
    assert end["choices"][0]["finish_reason"] == "length" and end["windward"]["ended"] == "length"
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 200 and usage["usage"]["joules"] > 0


def test_a_chat_stream_opens_with_the_role(client):
    with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        parts = events(response)
    assert parts[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert parts[0]["object"] == "chat.completion.chunk" and len({p["id"] for p in parts}) == 1
    assert parts[-1]["choices"][0]["finish_reason"] in ("stop", "length")


def test_a_stop_string_ends_and_is_not_told(client):
    whole = text_of(complete(client, max_tokens=120))
    stop = whole[40:43]
    place = whole.find(stop)
    made = complete(client, max_tokens=120, stop=["never met", stop])
    assert text_of(made) == whole[:place] and made["choices"][0]["finish_reason"] == "stop"
    assert made["windward"]["ended"] == "stop" and made["usage"]["completion_tokens"] < 120
    with client.stream(
        "POST", "/v1/completions", json={**ASK, "max_tokens": 120, "stop": stop, "stream": True}
    ) as response:
        assert "".join(text_of(p) for p in events(response)) == whole[:place]


def test_an_answer_goes_on_from_the_tokens_that_were_made(client):
    drawn = {"temperature": 1.0, "seed": 11}
    whole = text_of(complete(client, max_tokens=2000, **drawn))
    cut = complete(client, max_tokens=2000, deadline_s=0.05, **drawn)
    assert cut["windward"]["ended"] == "deadline" and cut["windward"]["seed"] == 11
    rest = complete(client, max_tokens=2000, generated_tokens=cut["windward"]["generated_tokens"], **drawn)
    assert text_of(cut) + text_of(rest) == whole


def test_a_chat_goes_through_the_openai_fields_that_ask_for_nothing(client):
    idle = {"n": 1, "tools": [], "response_format": {"type": "text"}, "logit_bias": {}, "user": "me", "logprobs": False}
    idle |= {"frequency_penalty": 0, "presence_penalty": 0.0, "stop": None, "seed": None, "metadata": {"a": "b"}}
    assert client.post("/v1/chat/completions", json={**CHAT, **idle}).status_code == 200


def test_models_lists_the_one_model(client):
    (card,) = client.get("/v1/models").json()["data"]
    assert card["id"] == NAME and card["max_model_len"] == 4096
    assert client.get(f"/v1/models/{NAME}").json() == card
    assert client.get("/v1/models/other").status_code == 404


def test_embeddings_are_normalised_and_repeatable(client):
    asked = {"model": NAME, "input": ["wind", "sun", "wind"]}
    made = client.post("/v1/embeddings", json=asked).json()
    first, second, third = (row["embedding"] for row in made["data"])
    assert first == third != second and sum(x * x for x in first) == pytest.approx(1, abs=1e-5)
    assert made["usage"]["joules"] >= 0 and made["usage"]["prompt_tokens"] > 2
    packed = client.post("/v1/embeddings", json={**asked, "input": "wind", "encoding_format": "base64"}).json()
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(first)}f", raw)) == pytest.approx(first)
    assert client.post("/v1/embeddings", json={**asked, "dimensions": 3}).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/v1/completions", {**ASK, "model": "other"}, 404, "no such model"),
        ("/v1/completions", {**ASK, "prompt": ""}, 200, ""),
        ("/v1/completions", {**ASK, "prompt": []}, 400, "prompt"),
        ("/v1/completions", {**ASK, "prompt": [1, 2, 299]}, 200, ""),
        ("/v1/completions", {**ASK, "prompt": [1, 2, 300]}, 400, "vocabulary"),
        ("/v1/completions", {**ASK, "prompt": ["a", "b"]}, 400, "prompt"),
        ("/v1/completions", {**ASK, "prompt": "é" * 9000}, 400, "tokens; 1 to 2000"),
        ("/v1/completions", {**ASK, "max_tokens": 0}, 400, "max_tokens"),
        ("/v1/completions", {**ASK, "max_tokens": 3001}, 400, "above this server's"),
        ("/v1/completions", {**ASK, "temperature": -1}, 400, "temperature"),
        ("/v1/completions", {**ASK, "temperature": 1e-300}, 200, ""),
        ("/v1/completions", {**ASK, "n": 2}, 400, "n"),
        ("/v1/completions", {**ASK, "logprobs": 3}, 400, "logprobs is not supported"),
        ("/v1/completions", {**ASK, "seed": 1 << 70}, 400, "seed"),
        ("/v1/completions", {**ASK, "generated_tokens": [5] * 24}, 400, "nothing is left"),
        ("/v1/completions", {**ASK, "generated_tokens": [500]}, 400, "vocabulary"),
        ("/v1/chat/completions", {**CHAT, "messages": []}, 400, "messages"),
        ("/v1/chat/completions", {**CHAT, "messages": [{"role": "king", "content": "a"}]}, 400, "role"),
        ("/v1/chat/completions", {**CHAT, "tools": [{"type": "function"}]}, 400, "tools is not supported"),
        ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, ""),
        ("/v1/embeddings", {"model": NAME, "input": []}, 400, "input"),
        ("/v1/completions", {**ASK, "top_k": 40}, 400, "top_k is not supported here; leave it out"),
        ("/v1/completions", {**ASK, "repetition_penalty": 1.3}, 400, "repetition_penalty is not supported"),
        ("/v1/completions", {**ASK, "temprature": 0.2}, 400, "temprature is not supported"),
        ("/v1/completions", {**ASK, "top_k": -1, "repetition_penalty": 1.0, "user": "me", "echo": False}, 200, ""),
        ("/v1/completions", {**ASK, "stream_options": {"include_cost": True}}, 400, "include_cost"),
        ("/v1/chat/completions", {**CHAT, "reasoning_effort": "high"}, 400, "reasoning_effort is not supported"),
        (
            "/v1/chat/completions",
            {**CHAT, "messages": [{"role": "user", "content": "a", "tool_calls": [1]}]},
            400,
            "tool",
        ),
        ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "a", "name": "Bo"}]}, 200, ""),
        ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "a", "\ud800": 1}]}, 400, ""),
        ("/v1/completions", {**ASK, "\ud800": 1}, 400, ""),
        ("/v1/embeddings", {"model": NAME, "input": "a", "truncate": "END"}, 400, "truncate is not supported"),
        ("/v1/embeddings", {"model": NAME, "input": "a", "user": "me", "dimensions": None}, 200, ""),
        ("/v1/nothing", {}, 404, "Not Found"),
        ("/v1/models", {}, 405, "Method Not Allowed"),
    ],
)
def test_a_wrong_request_is_explained_in_openais_shape(client, path, body, status, word):
    response = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    if status != 200:
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and word in error["message"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"[" * 200_000, b'{"model": NaN}', b'{"a": 1' + b"0" * 6000 + b"}",
        b'{"model": "small", "prompt": "\\ud800"}', b'{"model": "\\ud800", "prompt": "a"}', b"\xff\xfe\x00",
        b'{"model": "small", "prompt": "a", "temperature": NaN}', b'{"model": "small", "prompt": {"\\ud800": 1}}',
    ],
)  # fmt: skip
def test_a_malformed_body_is_the_clients_fault(client, content):
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings"):
        response = client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 400, response.text
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_large_body_is_not_read(server, client):
    large = client.post("/v1/completions", json={**ASK, "prompt": "a" * (1 << 20)})
    assert large.status_code == 413
    chunked = client.post("/v1/completions", content=(b"a" * 65536 for _ in range(40)))
    assert chunked.status_code == 413


@pytest.mark.parametrize("token", [None, "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é"])
def test_nobody_asks_without_the_token(server, token):
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
    for method, path in (("POST", "/v1/completions"), ("GET", "/v1/models"), ("GET", "/openapi.json"), ("GET", "/x")):
        response = httpx.request(method, server.url + path, headers=headers)
        assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "invalid_api_key"


def test_the_ops_port_has_no_api(server):
    assert httpx.get(f"{server.ops}/healthz").text == "ok\n"
    assert httpx.post(f"{server.ops}/v1/completions", json=ASK).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_frees_its_blocks(server, stream):
    before = server.metrics().get('vllm:request_success_total{finished_reason="abort"}', 0)
    with server.client() as client:
        asked = {**ASK, "max_tokens": 3000, "stream": stream}
        if stream:
            with client.stream("POST", "/v1/completions", json=asked) as response:
                lines = response.iter_lines()  # kept: the end of the iterator would close the response
                next(lines)
                assert server.metrics()["windward_kv_blocks_in_use"] > 0
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/completions", json=asked, timeout=0.2)
    eventually(lambda: server.metrics()["windward_kv_blocks_in_use"] == 0)
    after = server.metrics()
    assert after['vllm:request_success_total{finished_reason="abort"}'] == before + 1
    assert after["vllm:num_requests_running"] == after["vllm:num_requests_waiting"] == 0


def test_higher_priority_goes_first(server):
    """Eight places are taken by long answers; of two that wait, the later and more urgent is answered first."""
    order = []

    def ask(priority, tokens, name=None):
        with server.client() as client:
            complete(client, max_tokens=tokens, priority=priority)
        if name:
            order.append(name)

    long = [threading.Thread(target=ask, args=(50, 1500 + 100 * i)) for i in range(8)]
    for each in long:
        each.start()
    eventually(lambda: server.metrics()["vllm:num_requests_running"] == 8)
    late = []
    for name, priority in (("patient", 0), ("urgent", 10)):
        late.append(threading.Thread(target=ask, args=(priority, 900, name)))
        late[-1].start()
        eventually(lambda: server.metrics()["vllm:num_requests_waiting"] >= len(late) or order)
    for each in (*long, *late):
        each.join()
    assert order == ["urgent", "patient"]


def test_metrics_have_vllms_names(server, client):
    complete(client)
    found = server.metrics()
    for name in ("prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds_count"):
        assert found[f"vllm:{name}"] > 0
    for name in ("inter_token_latency_seconds_count", "e2e_request_latency_seconds_count"):
        assert found[f"vllm:{name}"] > 0
    assert found["vllm:kv_cache_usage_perc"] == found["vllm:gpu_cache_usage_perc"] == 0
    assert found['windward_joules_total{method="modelled",share="active"}'] > 0
    assert found["windward_grams_total"] == 0


def test_no_prompt_is_in_the_log(server, client):
    canary = "canaryInThePrompt"
    complete(client, prompt=canary)
    for body in ({**ASK, "prompt": canary, "n": 7}, {**ASK, canary: 1, "prompt": {canary: canary}}):
        response = client.post("/v1/completions", json=body)
        assert response.status_code == 400 and canary not in response.text
    client.post("/v1/chat/completions", json={**CHAT, "messages": [{"role": canary, "content": canary}]})
    client.post("/v1/completions", content=canary.encode())
    client.get(f"/v1/models/{canary}", params={"q": canary})
    assert canary not in server.log and "prompt=" in server.log
    assert TOKEN not in server.log
