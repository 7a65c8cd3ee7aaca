"""Figures for operators: vLLM's names where it has them, so that its dashboards and autoscalers work; joules and grams
under our own.

https://docs.vllm.ai/en/stable/usage/metrics.html. Older dashboards read `gpu_cache_usage_perc`, newer ones
`kv_cache_usage_perc`: both are here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from windward_worker.inference.engine import Answer, Engine
from windward_worker.inference.sequence import FinishReason

if TYPE_CHECKING:
    from windward_worker.serve.handle import RequestHandle

_STEPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)


class Metrics:
    """Counts what the host reports, and reads the engine when it is scraped. Kept by the loop's thread."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.registry = CollectorRegistry()
        self._name = name
        self._gauges(engine)
        counter, timed = self._counter, self._histogram
        self._prompt = counter("vllm:prompt_tokens", "Tokens of prompts.")
        self._generated = counter("vllm:generation_tokens", "Tokens made.")
        self._preempted = counter(
            "vllm:num_preemptions", "Times that a request gave its KV blocks back to go on later."
        )
        self._queries = counter("vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.")
        self._hits = counter("vllm:prefix_cache_hits", "Prompt tokens found there.")
        self._first = timed("vllm:time_to_first_token_seconds", "From a request's arrival to its first token.", _LONG)
        self._between = timed("vllm:inter_token_latency_seconds", "Between two tokens of a request.", _STEPS)
        self._each = timed("vllm:request_time_per_output_token_seconds", "Mean of a request, after its first.", _STEPS)
        self._whole = timed("vllm:e2e_request_latency_seconds", "From a request's arrival to its end.", _LONG)
        self._grams = counter("windward_grams", "g CO2e of answers, where the intensity was known.")
        self._success = Counter(
            "vllm:request_success", "Requests ended.", ["model_name", "finished_reason"], registry=self.registry
        )
        self._refused = Counter(
            "windward_requests_refused", "Requests refused.", ["model_name", "status"], registry=self.registry
        )
        self._joules = Counter(
            "windward_request_joules", "Joules of answers.", ["model_name", "method"], registry=self.registry
        )
        self.registry.register(_Energy(engine, name))
        self.mean_s = 1.0  # of a request, moving: what a 429 tells to wait

    def _gauges(self, engine: Engine) -> None:
        def gauge(name: str, what: str) -> Gauge:
            return Gauge(name, what, ["model_name"], registry=self.registry).labels(self._name)

        scheduler, blocks = engine.scheduler, engine.block_manager
        gauge("vllm:num_requests_running", "Requests in the batch.").set_function(lambda: len(scheduler.running))
        gauge("vllm:num_requests_waiting", "Requests in the queue.").set_function(
            lambda: len(engine.unfinished()) - len(scheduler.running)
        )
        for name in ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"):
            gauge(name, "Share of the KV blocks in use; 1 is all.").set_function(lambda: 1 - blocks.free / blocks.count)
        gauge("windward_kv_blocks_in_use", "KV blocks that a request owns.").set_function(
            lambda: blocks.count - blocks.free
        )
        gauge(
            "windward_python_blocks", "Pieces of memory that Python holds; under even load, growth is a leak."
        ).set_function(sys.getallocatedblocks)
        gauge("windward_intensity_g_per_kwh", "Carbon intensity that answers are told in; 0: unknown.").set_function(
            lambda: engine.batch_policy.intensity_g_per_kwh or 0.0
        )

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(name, what, ["model_name"], registry=self.registry).labels(self._name)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, what, ["model_name"], registry=self.registry, buckets=buckets).labels(self._name)

    def token(self, handle: RequestHandle | None, at_s: float) -> None:
        """A token was made; `at_s` on the monotonic clock."""
        self._generated.inc()
        if handle is None:
            return
        if handle.last_token_s is None:
            self._first.observe(at_s - handle.arrived_s)
        else:
            self._between.observe(at_s - handle.last_token_s)
        handle.last_token_s = at_s

    def answer(self, answer: Answer, *, awaited: bool) -> None:
        """A request ended; `awaited`: somebody still waited for it."""
        ended = answer.finish_reason.value if awaited or answer.finish_reason is not FinishReason.ABORTED else "abort"
        self._success.labels(self._name, ended).inc()
        self._prompt.inc(answer.prompt_tokens)
        self._queries.inc(answer.prompt_tokens)
        self._hits.inc(answer.cached_tokens)
        self._preempted.inc(answer.preemptions)
        self._joules.labels(self._name, answer.method.value).inc(answer.joules)
        self._grams.inc(answer.grams or 0.0)
        self._whole.observe(answer.total_s)
        self.mean_s += 0.05 * (answer.total_s - self.mean_s)
        if answer.first_token_s is not None and len(answer.tokens) > 1:
            self._each.observe((answer.total_s - answer.first_token_s) / (len(answer.tokens) - 1))

    def embedded(self, tokens: int, joules: float, method: str) -> None:
        """Texts were made vectors."""
        self._prompt.inc(tokens)
        self._joules.labels(self._name, method).inc(joules)

    def refused(self, status: int) -> None:
        self._refused.labels(self._name, str(status)).inc()


class _Energy(Collector):
    """The engine's joules as it shares them out."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._energy = engine.energy
        self._name = name

    def collect(self) -> Iterator[Metric]:
        labels = ["model_name", "share", "method"]
        family = CounterMetricFamily(
            "windward_joules", "Joules drawn, by whether steps or idling took them.", None, labels
        )
        method = self._energy.method.value
        family.add_metric([self._name, "active", method], self._energy.active_j)
        family.add_metric([self._name, "idle", method], self._energy.idle_j)
        yield family
