"""What the server is told: the model, where it listens, who may ask, and how much. No FastAPI, no torch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from windward_api.contract import ENV_INTENSITY_FILE, ENV_POWER_CAP_WATTS
from windward_worker.control import Refused
from windward_worker.inference.signals import RuntimeSignals, read_signals

TOKEN_VARIABLE = "WINDWARD_SERVE_TOKEN"  # noqa: S105 - the variable's name, no secret
LEAST_TOKEN = 16  # characters


@dataclass(frozen=True)  # no slots: the defaults are read from the class
class Settings:
    """All of `windward-worker serve`. Bounds are those of each request; without `token`, everyone may ask."""

    model: str  # a path, or package:NAME
    name: str | None = None  # what clients call it; None: the file's name
    host: str = "127.0.0.1"
    port: int = 8000
    ops_port: int = 9000
    token: str | None = field(default=None, repr=False)
    chat_template: Path | None = None
    weights: str = "stored"
    kv: str = "float16"
    kv_mib: int = 512
    threads: int = 1
    context: int | None = None  # tokens; None: the model's
    sequences: int = 64  # that share a step
    step_tokens: int = 512
    max_concurrent: int = 256  # requests inside the server; more get 429
    max_connections: int = 1024  # clients at once; less where the limit on open files is low
    max_silence_s: float = 10.0  # of a connection without a request under way
    max_body: int = 1 << 20  # bytes
    max_prompt: int = 8192  # tokens
    max_tokens: int = 4096  # of an answer
    max_time_s: float = 600.0  # of a request; then it ends with what it has
    grace_s: float = 25.0  # to finish in after SIGTERM; below Kubernetes' 30
    signals: RuntimeSignals = field(default_factory=RuntimeSignals)  # cap and intensity; read again every few seconds
    max_wait_s: float = (
        0.05  # most that requests are held back for company: where electricity is dirty, or above the cap
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `serve`; defaults are those of Settings."""
    add = parser.add_argument
    add("--model", required=True, help="a .gguf file, a model folder, or package:NAME for one in a Python package")
    add("--name", help="what clients call the model (default: the file's name)")
    add("--host", default=Settings.host, help="address to listen on; in a pod, its own (default: %(default)s)")
    add("--port", type=_port, default=Settings.port, help="of the API; 0 takes any (default: %(default)s)")
    add("--ops-port", type=_port, default=Settings.ops_port, help="of /healthz and /metrics (default: %(default)s)")
    add("--token-file", type=Path, help=f"file with the bearer token (default: variable {TOKEN_VARIABLE})")
    add("--insecure", action="store_true", help="answer without a token: whoever reaches the port may ask")
    add("--chat-template", type=Path, help="jinja file, where the model carries none")
    add("--weights", choices=["stored", "float32", "int8", "int4"], default=Settings.weights)
    add("--kv", choices=["float32", "float16", "int8", "int4"], default=Settings.kv, help="form of keys and values")
    add("--kv-mib", type=_whole, default=Settings.kv_mib, help="memory for keys and values (default: %(default)s)")
    add("--threads", type=_whole, default=Settings.threads)
    add("--context", type=_whole, help="most tokens of prompt and answer (default: the model's)")
    add("--sequences", type=_whole, default=Settings.sequences, help="requests that share a step")
    add("--step-tokens", type=_whole, default=Settings.step_tokens, help="most tokens that a step computes")
    add("--max-concurrent", type=_whole, default=Settings.max_concurrent, help="requests at once; more get 429")
    add("--max-connections", type=_whole, default=Settings.max_connections, help="clients at once; more get 503")
    add("--max-silence", type=_positive, default=Settings.max_silence_s, help="seconds for headers, or a next request")
    add("--max-body", type=_whole, default=Settings.max_body, help="bytes of a request (default: %(default)s)")
    add("--max-prompt", type=_whole, default=Settings.max_prompt, help="tokens of a prompt (default: %(default)s)")
    add("--max-tokens", type=_whole, default=Settings.max_tokens, help="tokens of an answer (default: %(default)s)")
    add("--max-time", type=_positive, default=Settings.max_time_s, help="seconds of a request (default: %(default)s)")
    add("--grace", type=_positive, default=Settings.grace_s, help="seconds to finish in after SIGTERM")
    add("--intensity", type=_positive, help="g CO2e/kWh; answers then tell grams")
    add("--intensity-file", type=Path, help=f"file with it, read again every few seconds (also: {ENV_INTENSITY_FILE})")
    add("--max-wait", type=_wait, default=Settings.max_wait_s, help="seconds to wait for company, when dirty or capped")
    add("--cap-watts", type=_positive, help=f"mean draw to stay below (also: {ENV_POWER_CAP_WATTS}; the lower holds)")


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text} is no port; give 0 to 65535")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is too small; give 1 or more")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is out of range; give a number above 0")
    return value


def _wait(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 60:
        raise argparse.ArgumentTypeError(f"{text} is out of range; give 0 to 60 seconds")
    return value


def settings_from(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Raises Refused where there is no token, or the limits contradict each other."""
    if arguments.token_file is not None and arguments.insecure:
        raise Refused("serve: --insecure and --token-file contradict each other; leave one of them out")
    token = _token(arguments.token_file, environ)
    if token is None and not arguments.insecure:
        raise Refused(
            f"serve: no bearer token: set {TOKEN_VARIABLE} or give --token-file FILE; "
            "or give --insecure, if whoever reaches the port may ask"
        )
    if arguments.step_tokens < arguments.sequences:
        raise Refused(f"serve: --step-tokens {arguments.step_tokens} is less than --sequences; each takes one a step")
    return Settings(
        model=arguments.model,
        name=arguments.name,
        host=arguments.host,
        port=arguments.port,
        ops_port=arguments.ops_port,
        token=None if arguments.insecure else token,
        chat_template=arguments.chat_template,
        weights=arguments.weights,
        kv=arguments.kv,
        kv_mib=arguments.kv_mib,
        threads=arguments.threads,
        context=arguments.context,
        sequences=arguments.sequences,
        step_tokens=arguments.step_tokens,
        max_concurrent=arguments.max_concurrent,
        max_connections=arguments.max_connections,
        max_silence_s=arguments.max_silence,
        max_body=arguments.max_body,
        max_prompt=arguments.max_prompt,
        max_tokens=arguments.max_tokens,
        max_time_s=arguments.max_time,
        grace_s=arguments.grace,
        signals=read_signals(
            environ,
            cap_w=arguments.cap_watts,
            intensity_g_per_kwh=arguments.intensity,
            intensity_file=arguments.intensity_file,
        ),
        max_wait_s=arguments.max_wait,
    )


def _token(file: Path | None, environ: Mapping[str, str]) -> str | None:
    """The token, from the file if one is named. Raises Refused where it is unreadable, short or not ASCII."""
    if file is None:
        text, source = environ.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE
        if not text:
            return None
    else:
        source = f"--token-file {file.name}"
        try:
            text = file.read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"serve: {source} is unreadable: {type(error).__name__}; write the token there") from error
    text = text.strip()
    if len(text) < LEAST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise Refused(
            f"serve: the token in {source} is too weak or has spaces; give {LEAST_TOKEN} or more printable ASCII "
            'characters, such as those of: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return text
