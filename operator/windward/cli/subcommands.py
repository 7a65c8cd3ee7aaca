"""`windward providers` and `windward zones`: commands with commands of their own."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from windward.cli.options import Json, Output, Trace, YamlOutput

providers_app = typer.Typer(help="Sources of carbon data.", no_args_is_help=True)


@providers_app.command("list")
def providers_list(output: Json = Output.TABLE) -> None:
    """Show all sources and what each needs."""
    from windward.cli.providers import providers_list as run

    run(output)


@providers_app.command("test")
def providers_test(
    name: Annotated[str, typer.Argument(help="Source, or several joined by commas; see providers list.")],
    zone: Annotated[str, typer.Option(help="Grid zone to ask for; default: the source's first.")] = "",
    trace: Trace = None,
    output: Json = Output.TABLE,
) -> None:
    """Ask a source for a forecast and the last day, as the operator would."""
    from windward.cli.providers import providers_test as run

    run(name, zone, trace, output)


zones_app = typer.Typer(help="Grid zones of cloud regions.", no_args_is_help=True)


@zones_app.command("search")
def zones_search(
    words: Annotated[Optional[list[str]], typer.Argument(help="Part of a region, place or zone.")] = None,  # noqa: UP045
    output: Annotated[
        YamlOutput, typer.Option("--output", "-o", help="table, json, or yaml (GreenRegions).")
    ] = YamlOutput.TABLE,
) -> None:
    """Find the grid zone and the PUE of a cloud region."""
    from windward.cli.zones import zones_search as run

    run(" ".join(words or []), output)
