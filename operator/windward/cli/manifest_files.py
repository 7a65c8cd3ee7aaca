"""Manifests from files: read, checked with the same sentences as on a cluster."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from windward.cli.errors import on_path, usage_error
from windward.reports.shown import shown
from windward_api.greencronjob import GreenCronJob
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.sentences import KINDS, sentences

GROUP = "windward.dev/"
MOST_BYTES = 4_000_000  # an API server takes objects of 1.5 MB
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_RULE = "use lower-case letters, digits and '-', with a letter or digit first and last"

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Objects:
    """What the files hold: bodies as written, and models, whose namespace is `default` where a body names none."""

    bodies: tuple[Body, ...]
    jobs: tuple[GreenJob, ...]
    crons: tuple[GreenCronJob, ...]
    regions: tuple[GreenRegion, ...]


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: an unquoted time stays the text that was written; a key given twice is a fault."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    problem = f"the key {key.value!r} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_objects(files: Sequence[Path]) -> Objects:
    """All objects of all files; those of other kinds are left to kubectl, with a note.

    Raises:
        CliError: a file cannot be read, or an object is invalid; each fault names file, field and fix.
    """
    bodies: list[Body] = []
    faults: list[str] = []
    models: list[Any] = []
    skipped: list[str] = []
    for path in files:
        for number, body in enumerate(_documents(path), 1):
            if _foreign(body):
                skipped.append(f"{body['kind']} {_name(body)}".strip())
                continue
            try:
                models.append(checked(body))
                bodies.append(body)
            except ValueError as e:
                faults += [f"{path}, object {number}: {s}" for s in faults_of(e)]
    if faults:
        fix = "correct the fields named above" if len(faults) > 1 else "correct the field"
        raise usage_error("invalid manifest", cause="\n       ".join(faults), fix=fix)
    if skipped:
        sys.stderr.write(shown(f"note: skipped {', '.join(skipped)}: not Windward's, kubectl applies it") + "\n")
    if not bodies:
        fix = "give a file with a GreenJob; examples/train.yaml is one"
        raise usage_error("nothing to do: no objects in the files", fix=fix)
    _twice(bodies)
    return Objects(
        tuple(bodies),
        tuple(m for m in models if isinstance(m, GreenJob)),
        tuple(m for m in models if isinstance(m, GreenCronJob)),
        tuple(m for m in models if isinstance(m, GreenRegion)),
    )


def checked(body: Body) -> GreenJob | GreenCronJob | GreenRegion:
    """The object as a model; its body stays as it is.

    Raises:
        ValueError: it is invalid, as an API server would say, too.
    """
    kind = body.get("kind")
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
    metadata = body.get("metadata") or {}
    filled = metadata if kind == "GreenRegion" else {"namespace": "default", **metadata}
    model: Any = KINDS[kind].model_validate({**body, "metadata": filled})
    check_name("metadata.name", model.metadata.name, subdomain=True)
    if kind != "GreenRegion":
        check_name("metadata.namespace", model.metadata.namespace)
    return model  # type: ignore[no-any-return]


def check_name(field: str, value: str, *, subdomain: bool = False) -> None:
    """Refuse what Kubernetes would not take as a name (RFC 1123): names become folders and paths.

    Raises:
        ValueError: it is no such name; the sentence names the field.
    """
    most = 253 if subdomain else 63
    if not re.fullmatch(_SUBDOMAIN if subdomain else _LABEL, value) or len(value) > most:
        raise ValueError(f"{field}: {value[:80]!r} is no name of at most {most} characters: {_RULE}")


def faults_of(error: ValueError) -> list[str]:
    """What is wrong with an object, in sentences; what YAML made of an unquoted word is told."""
    if not isinstance(error, ValidationError):
        return [str(error)]
    out = sentences(error)
    for fault in error.errors(include_url=False):
        if fault["type"] == "string_type" and isinstance(fault["input"], bool | int | float):
            path = ".".join(str(p) for p in fault["loc"])
            out = [_unquoted(path, fault["input"]) if s.startswith(f"{path}: ") else s for s in out]
    return out


def _unquoted(path: str, value: bool | int | float) -> str:
    if isinstance(value, bool):
        word = "YES" if value else "NO"
        return f'{path}: YAML reads the unquoted word as {str(value).lower()}: write it in quotes, as in "{word}"'
    return f'{path}: YAML reads it as a number: write it in quotes: "{value}"'


def _twice(bodies: Sequence[Mapping[str, Any]]) -> None:
    """Refuse two objects of one kind and name: one of them would be lost."""
    seen: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for b in bodies:
        key = (b["kind"], b["metadata"].get("namespace", ""), b["metadata"]["name"])
        if seen.setdefault(key, b).get("spec") != b.get("spec"):
            fix = "rename one, or leave one out"
            raise usage_error(f"{key[0]} {key[2]} is there twice, with another spec", fix=fix)


def _documents(path: Path) -> Iterator[Body]:
    """The documents of a file; a List is unrolled."""
    for document in _parsed(path):
        metadata = document.get("metadata") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(metadata or {}, dict):
            what = f"{path} holds something that is no object"
            raise usage_error(what, fix="start each with apiVersion, kind and metadata")
        if document.get("kind") == "List" and isinstance(document.get("items"), list):
            yield from (d for d in document["items"] if isinstance(d, dict))
        else:
            yield document


def _parsed(path: Path) -> list[Any]:
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as e:
        raise on_path(f"cannot read {path}", e, fix="check the path") from e
    fix = "give a YAML manifest, such as examples/train.yaml"
    if len(raw) > MOST_BYTES:
        raise usage_error(f"{path} is too large for a manifest", cause=f"{len(raw)} bytes", fix=fix)
    try:
        return [d for d in yaml.load_all(raw.decode("utf-8-sig"), _Loader) if d is not None]
    except UnicodeDecodeError as e:
        raise usage_error(f"{path} is no text", cause="its bytes are not UTF-8", fix=fix) from e
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as e:
        cause = " ".join(str(e).split())
        raise usage_error(f"{path} is no YAML", cause=cause, fix="correct the line named above") from e


def _foreign(body: Mapping[str, Any]) -> bool:
    """Whether an object is another API's: kubectl would take it, and nothing of it is for us."""
    api, kind = body.get("apiVersion"), body.get("kind")
    return isinstance(api, str) and isinstance(kind, str) and not api.startswith(GROUP)


def _name(body: Mapping[str, Any]) -> str:
    return str((body.get("metadata") or {}).get("name", ""))
