"""Laying out a conversation as a model was trained to see it: the file's own template, in a sandbox.

A template is a program from outside. jinja2's immutable sandbox keeps it from attributes and from changing what it is
given; its result is cut at a length, and it sees nothing but messages, names of tokens and the date. What it may call
is what transformers 5 gives it: raise_exception, strftime_now, tojson, loop controls, the `generation` tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windward_worker.control import Refused, now

LIMIT = 1 << 20  # characters of a template, and of what it makes


class ChatTemplate:
    """A compiled template. `render` makes the text that the model continues."""

    def __init__(self, text: str, *, bos: str = "", eos: str = "", tokens: Mapping[str, str] | None = None) -> None:
        """`tokens`: texts by name, such as `pad_token`. Raises Refused where the template cannot be compiled."""
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        from windward_worker.model.generation_tag import Generation

        if len(text) > LIMIT:
            raise Refused(f"the chat template has {len(text)} characters; at most {LIMIT} are taken")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
        )
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _strftime_now
        environment.globals.pop("lipsum", None)
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(text)
        except (TemplateError, RecursionError) as error:
            raise Refused(f"the chat template does not compile: {error}; give another") from error
        self._tokens = {"bos_token": bos, "eos_token": eos, **(tokens or {})}

    def render(self, messages: Sequence[Mapping[str, Any]], *, ask: bool = True, **more: Any) -> str:
        """The conversation as text; with `ask`, opened for the assistant's answer.

        Each message has `role` and `content`. Raises Refused where the template refuses them or fails.
        """
        parts: list[str] = []
        length = 0
        try:
            for part in self._template.generate(
                messages=[dict(m) for m in messages],
                add_generation_prompt=ask,
                **{"tools": None, "documents": None, **self._tokens, **more},
            ):
                length += len(part)
                if length > LIMIT:
                    raise Refused(f"the chat template makes more than {LIMIT} characters; shorten the conversation")
                parts.append(part)
        except Refused:
            raise
        except Exception as error:  # a template may fail in any way that Python can
            raise Refused(f"the chat template fails on these messages: {error}; check roles and order") from error
        return "".join(parts)


def _raise(message: str) -> None:
    raise ValueError(message)


def _strftime_now(form: str) -> str:
    """Today in a form of the template's, as some put it in front of a conversation; UTC."""
    if len(form) > 64:
        raise ValueError("strftime_now: a form of more than 64 characters")
    return now().strftime(form)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: no HTML escapes."""
    import json

    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
