"""Options that several commands share, each checked as it is read. Loads nothing heavy: `--help` is instant."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer


class Output(StrEnum):
    """What goes to stdout."""

    TABLE = "table"
    JSON = "json"


class ReportOutput(StrEnum):
    """What `report` prints."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class YamlOutput(StrEnum):
    """What prints objects."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class CrdOutput(StrEnum):
    """What prints nothing but objects."""

    YAML = "yaml"
    JSON = "json"


class Scale(StrEnum):
    """Height of strips."""

    SHARED = "shared"
    ZONE = "zone"


def finite(low: float, high: float, *, above: bool = False) -> Callable[[float], float]:
    """A check that a number lies in [low, high], or in (low, high] where it must be `above`; nan never does."""

    def check(value: float) -> float:
        if not math.isfinite(value) or value > high or (value <= low if above else value < low):
            least = f"above {low:g}" if above else f"{low:g} or more"
            raise typer.BadParameter(f"{value:g} is not a number {least} and at most {high:g}.")
        return value

    return check


Json = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]
Files = Annotated[list[Path], typer.Option("--file", "-f", help="Manifest; repeat for several; - reads stdin.")]
At = Annotated[str, typer.Option("--at", help="Plan as of this time (RFC 3339); default: now.")]
Provider = Annotated[str, typer.Option(help="Source of carbon data, as in windward providers list; default: trace.")]
Trace = Annotated[Optional[Path], typer.Option(help="Your own recording for --provider trace.")]  # noqa: UP045
Local = Annotated[bool, typer.Option("--local/--cluster", help="This machine, or the cluster of your kubeconfig.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace; default: default, or your context's.")]
AnyNamespace = Annotated[str, typer.Option("--namespace", "-n", help="Only this namespace; default: all.")]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig; default: the current one.")]
Kubeconfig = Annotated[Optional[Path], typer.Option(help="Kubeconfig; default: $KUBECONFIG or ~/.kube/config.")]  # noqa: UP045
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a manifest's command runs on this machine.")]
Speed = Annotated[
    float,
    typer.Option(
        help="Clock speed of a rehearsal: planned seconds per real second; needs --start.",
        callback=finite(0, 1e6, above=True),
    ),
]
Start = Annotated[str, typer.Option(help="Rehearse: planned time at which a simulated clock begins (RFC 3339).")]
Policies = Annotated[
    str, typer.Option("--policy", help="all, or a list: run-now, greenest-now, window, windward, clairvoyant.")
]
Knows = Annotated[
    str, typer.Option(help="What is known of the coming hours: own (our forecaster), yesterday, perfect.")
]
Recorded = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Your recording of intensities; default: the bundled demonstration year."),
]
Page = Annotated[Optional[Path], typer.Option(help="Write the result as an HTML page too.")]  # noqa: UP045
Step = Annotated[str, typer.Option(help="The simulated operator looks at least this often.")]
Seed = Annotated[int, typer.Option(help="Draws of the fleet and of faults.", min=0)]
