"""Whatever a client sends within or beside the schema, the server does not fail."""

import json

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from worker.serve.process import NAME, TOKEN


def test_no_request_is_a_server_error(start):
    server = start("--max-tokens", 8, "--max-time", 5)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    schema = schemathesis.openapi.from_url(server.url + "/openapi.json", headers=headers)
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    schema.config.generation.update(modes=modes)
    tried = set()

    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=40, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @__import__("hypothesis").given(case=operation.as_strategy())
        def probe(case):
            response = case.call(headers=headers, timeout=30)
            case.validate_response(response, checks=[not_a_server_error])
            tried.add((case.method, case.path))

        probe()
    assert len(tried) == 5
    assert "failed" not in server.log


BODIES = {  # what no schema describes; {name} stands for the model
    "no JSON": b'{"model": ',
    "no object": b"[1, 2]",
    "a bare number": b"7",
    "empty": b"",
    "no UTF-8": b'{"model": "\xff\xfe"}',
    "a lone surrogate": b'{"model": "{name}", "prompt": "\\ud800", "input": "\\udfff", "messages": '
    b'[{"role": "user", "content": "\\ud800"}], "max_tokens": 1}',
    "a surrogate as the model": b'{"model": "\\ud800", "prompt": "a", "input": "a", "messages": []}',
    "wrong types": b'{"model": {}, "prompt": {"a": 1}, "input": true, "messages": "hello", "stop": 4, "stream": []}',
    "numbers beyond float": b'{"model": "{name}", "prompt": "a", "input": "a", "messages": [], "temperature": 1e999}',
    "not a number": b'{"model": "{name}", "prompt": "a", "input": "a", "messages": [], "top_p": NaN, "seed": Infinity}',
    "a seed of 4000 digits": b'{"model": "{name}", "prompt": "a", "input": "a", "messages": [], "seed": '
    + b"9" * 4000
    + b"}",
    "a token beyond the vocabulary": b'{"model": "{name}", "prompt": [2147483647], "input": [2147483647]}',
    "nested deep": b'{"model": "{name}", "prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a long prompt": b'{"model": "{name}", "max_tokens": 1, "prompt": "%b", "input": "%b", "messages": []}'
    % (b"a" * 300_000, b"a" * 300_000),
    "too large": b'{"model": "' + b"a" * (1 << 20) + b'"}',
}


# What a route may answer: a surrogate is a character like others, and not every route reads every field.
MAY_BE_ANSWERED = {
    "a lone surrogate",
    "numbers beyond float",
    "not a number",
    "a seed of 4000 digits",
    "a long prompt",
}


def test_bodies_beside_any_schema_are_the_clients_fault(start):
    server = start("--max-tokens", 8, "--max-time", 5)
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
        for path in (path for path, methods in paths.items() if "post" in methods):
            for what, body in BODIES.items():
                content = body.replace(b"{name}", NAME.encode())
                response = client.post(path, content=content, headers={"Content-Type": "application/json"})
                fine = what in MAY_BE_ANSWERED and response.status_code == 200
                assert fine or 400 <= response.status_code < 500, (path, what, response.status_code)
                assert json.loads(response.content), (path, what)
        assert len([path for path in paths if "post" in paths[path]]) == 3
        for path in paths:
            for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
                assert client.request(method, path.replace("{name}", "x")).status_code == 405
        alive = {"model": NAME, "prompt": "a", "max_tokens": 1}
        assert client.post("/v1/completions", json=alive).status_code == 200
    assert "failed" not in server.log
