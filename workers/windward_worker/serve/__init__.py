"""Serving: the engine behind OpenAI's HTTP API, with joules beside the tokens.

run.py starts and drains; guard.py stands before everything; app.py has the routes, schema.py what they take and
responses.py what they give; admission.py bounds how many requests are inside; inputs.py checks and translates them;
host.py is the thread that owns the engine, handle.py a request submitted to it; text.py makes text of tokens;
metrics.py and ops.py tell the operators. settings.py needs neither FastAPI nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windward_worker.serve.app import make_app
    from windward_worker.serve.host import EngineHost
    from windward_worker.serve.run import serve
    from windward_worker.serve.settings import Settings, add_arguments, settings_from

_HOMES = {
    "EngineHost": "host",
    "Settings": "settings",
    "add_arguments": "settings",
    "make_app": "app",
    "serve": "run",
    "settings_from": "settings",
}

__all__ = ["EngineHost", "Settings", "add_arguments", "make_app", "serve", "settings_from"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
