"""The images that our chart names by default, as the test nodes carry them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from cluster.kube.image import Image

CHART = Path(__file__).resolve().parents[2] / "charts" / "windward"


def chart_images() -> list[Image]:
    """The operator's and the worker's, as the chart names them."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    version = _version()

    def name(image: dict[str, Any]) -> str:
        return f"{image['repository']}:{image['tag'] or version}"

    return [
        Image(name(values["image"]), ("windward-operator",)),
        Image(name(values["worker"]["image"]), ("windward-worker",)),
    ]


def built_images() -> list[Image]:
    """The same as README builds them, without a registry."""
    return [
        Image(f"docker.io/library/windward-{part}:{_version()}", (f"windward-{part}",))
        for part in ("operator", "worker")
    ]


def _version() -> str:
    return str(yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"])
