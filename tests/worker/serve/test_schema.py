"""Whatever a client sends within or beside the schema, the server does not fail."""

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from worker.serve.process import TOKEN


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
