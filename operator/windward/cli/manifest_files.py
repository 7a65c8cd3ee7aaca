"""Manifests from files: read, checked with the same sentences as on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from windward.cli.errors import CliError, Exit
from windward_api.greencronjob import GreenCronJob
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.sentences import KINDS, sentences


@dataclass(frozen=True, slots=True)
class Objects:
    """What the files hold: bodies as written (names and namespaces filled in), and as models."""

    bodies: tuple[dict[str, Any], ...]
    jobs: tuple[GreenJob, ...]
    crons: tuple[GreenCronJob, ...]
    regions: tuple[GreenRegion, ...]


def read_objects(files: Sequence[Path]) -> Objects:
    """All objects of all files.

    Raises:
        CliError: a file cannot be read, or an object is invalid; each fault names file, field and fix.
    """
    bodies: list[dict[str, Any]] = []
    faults: list[str] = []
    models: list[Any] = []
    for path in files:
        for number, body in enumerate(_documents(path), 1):
            try:
                models.append(_model(body))
                bodies.append(body)
            except ValidationError as e:
                faults += [f"{path}, object {number}: {s}" for s in sentences(e)]
            except ValueError as e:
                faults.append(f"{path}, object {number}: {e}")
    if faults:
        fix = "correct the fields named above" if len(faults) > 1 else "correct the field"
        raise CliError("invalid manifest", cause="\n       ".join(faults), fix=fix, code=Exit.USAGE)
    if not bodies:
        raise CliError("nothing to do: no objects in the files", code=Exit.USAGE)
    return Objects(
        tuple(bodies),
        tuple(m for m in models if isinstance(m, GreenJob)),
        tuple(m for m in models if isinstance(m, GreenCronJob)),
        tuple(m for m in models if isinstance(m, GreenRegion)),
    )


def _documents(path: Path) -> list[dict[str, Any]]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except OSError as e:
        raise CliError(f"cannot read {path}", cause=e.strerror or str(e), fix="check the path", code=Exit.USAGE) from e
    except yaml.YAMLError as e:
        raise CliError(f"{path} is no YAML", cause=str(e).replace("\n", " "), code=Exit.USAGE) from e
    for d in documents:
        if not isinstance(d, dict) or not isinstance(d.get("metadata", {}), dict):
            raise CliError(
                f"{path} holds something that is no object", fix="start each with apiVersion", code=Exit.USAGE
            )
    return documents


def _model(body: dict[str, Any]) -> Any:
    kind = body.get("kind")
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
    metadata = body.setdefault("metadata", {})
    if kind != "GreenRegion":
        metadata.setdefault("namespace", "default")
    return KINDS[kind].model_validate(body)
