"""The images that our chart names by default, as the test nodes carry them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from cluster.kube.image import Image

CHART = Path(__file__).resolve().parents[2] / "charts" / "windward"


def chart_images() -> list[Image]:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]

    def name(image: dict[str, Any]) -> str:
        return f"{image['repository']}:{image['tag'] or version}"

    built = [f"docker.io/library/windward-{part}:{version}" for part in ("operator", "worker")]  # as README builds them
    return [
        *(Image(one, ("windward-operator",)) for one in (name(values["image"]), built[0])),
        *(Image(one, ("windward-worker",)) for one in (name(values["worker"]["image"]), built[1])),
    ]
