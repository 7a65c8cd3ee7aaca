"""The commands. Each imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from windward.cli.options import (
    AnyNamespace,
    At,
    Context,
    CrdOutput,
    Files,
    Json,
    Knows,
    Kubeconfig,
    Local,
    Namespace,
    Output,
    Page,
    Policies,
    Provider,
    Recorded,
    ReportOutput,
    Scale,
    Seed,
    Speed,
    Start,
    Step,
    Trace,
    Yes,
    finite,
)
from windward.cli.subcommands import providers_app, zones_app

app = typer.Typer(
    name="windward",
    help="Runs each job where and when it emits least, and finishes in time.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# As `kubectl greenjob` the cluster is meant; as `windward` this machine.
_LOCAL = not Path(sys.argv[0]).name.startswith("kubectl")


@app.command()
def demo(
    speed: Annotated[
        float, typer.Option(help="Clock speed; 0: chosen for this machine.", callback=finite(0, 1e6))
    ] = 0.0,
    keep: Annotated[Optional[Path], typer.Option(help="Keep the demo's state in this folder.")] = None,  # noqa: UP045
    plain: Annotated[bool, typer.Option(help="Plain commands even where torch is installed.")] = False,
    output: Json = Output.TABLE,
) -> None:
    """Train, pause in the dirty hours, resume, infer, and print the receipt: real grid data, no network."""
    from windward.cli.demo import demo as run

    run(speed, keep, plain=plain, output=output)


@app.command()
def forecast(
    zones: Annotated[Optional[list[str]], typer.Argument(help="Zones; default: all that the provider knows.")] = None,  # noqa: UP045
    horizon: Annotated[str, typer.Option(help="How far ahead.")] = "48h",
    duration: Annotated[str, typer.Option(help="Length of the window that is looked for.")] = "4h",
    scale: Annotated[
        Scale, typer.Option(help="Height of the strips: shared by all zones, or each zone its own.")
    ] = Scale.SHARED,
    at: At = "",
    provider: Provider = "",
    trace: Trace = None,
    output: Json = Output.TABLE,
) -> None:
    """Show the coming intensity of zones as strips, with the best window."""
    from windward.cli.forecast import forecast as run
    from windward.cli.sources import Source

    run(zones or [], horizon, duration, scale, at, Source.chosen(provider, trace), output)


@app.command()
def plan(
    file: Files,
    check: Annotated[bool, typer.Option(help="Exit with 3 if a job cannot finish in time.")] = False,
    at: At = "",
    provider: Provider = "",
    trace: Trace = None,
    output: Json = Output.TABLE,
) -> None:
    """Show when and where jobs would run, what else was weighed and why; submits nothing.

    Of a GreenCronJob, the job of its next window is planned.
    """
    from windward.cli.plan import plan as run
    from windward.cli.sources import Source

    run(file, check=check, at=at, source=Source.chosen(provider, trace), output=output)


@app.command()
def run(
    command: Annotated[Optional[list[str]], typer.Argument(help="Command to run, after --.")] = None,  # noqa: UP045
    file: Annotated[Optional[list[Path]], typer.Option("--file", "-f", help="Manifest instead of a command.")] = None,  # noqa: UP045
    duration: Annotated[str, typer.Option(help="How long the command takes.")] = "",
    deadline: Annotated[str, typer.Option(help="Finish within this time, or by this time (RFC 3339).")] = "",
    zone: Annotated[str, typer.Option(help="Grid zone of this machine, such as GB or DE.")] = "",
    watts: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="What the command draws; default: 100.", min=1, max=10_000_000),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the job; default: after the command.")] = "",
    pausable: Annotated[
        bool, typer.Option("--pausable", help="The command honours SIGTERM, checkpoint, exit 75.")
    ] = False,
    provider: Provider = "",
    trace: Trace = None,
    speed: Speed = 1.0,
    start: Start = "",
    yes: Yes = False,
    output: Json = Output.TABLE,
) -> None:
    """Run a command or a manifest on this machine: wait for the clean hours, run, meter, receipt.

    The same command again goes on with a job that has not ended.
    """
    from windward.cli.run import CommandOptions, World, run_command, run_files

    world = World.chosen(provider, trace, speed, start)
    options = CommandOptions(duration, deadline, zone, watts, name, pausable)
    if file:
        options.refuse_with_files(command or [])
        code = run_files(file, world, output, yes=yes)
    else:
        code = run_command(command or [], options, world, output, yes=yes)
    raise typer.Exit(code)


@app.command()
def apply(
    file: Files,
    local: Local = _LOCAL,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    provider: Provider = "",
    trace: Trace = None,
    speed: Speed = 1.0,
    start: Start = "",
    yes: Yes = False,
    output: Json = Output.TABLE,
) -> None:
    """Submit manifests: to the cluster, or run them on this machine to the end."""
    from windward.cli.worlds import Target

    target = Target.chosen(local, namespace, context, kubeconfig)
    if local:
        from windward.cli.run import World, run_files

        world = World.chosen(provider, trace, speed, start)
        raise typer.Exit(run_files(file, world, output, yes=yes, namespace=namespace))
    from windward.cli.remote import apply_files
    from windward.cli.sources import only_local

    only_local({"--provider": provider, "--trace": trace, "--speed": speed != 1.0, "--start": start, "--yes": yes})
    apply_files(file, target, output)


@app.command("list")
def list_jobs(
    local: Local = _LOCAL,
    namespace: AnyNamespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Json = Output.TABLE,
) -> None:
    """List GreenJobs with state, reason, planned start, grams and saving."""
    from windward.cli.listing import list_jobs as run
    from windward.cli.worlds import Target

    run(Target.chosen(local, namespace, context, kubeconfig), output)


def _on_one_job(verb: str, summary: str) -> None:
    """Register a command that is given one job and where to find it."""

    @app.command(verb, help=summary)
    def command(
        name: str,
        local: Local = _LOCAL,
        namespace: Namespace = "",
        context: Context = "",
        kubeconfig: Kubeconfig = None,
        output: Json = Output.TABLE,
    ) -> None:
        from windward.cli import change, listing
        from windward.cli.worlds import Target

        commands = {
            "why": listing.why,
            "run-now": change.run_now,
            "hold": change.hold,
            "release": change.release,
            "cancel": change.cancel,
        }
        commands[verb](name, Target.chosen(local, namespace, context, kubeconfig), output)


_on_one_job("why", "Say why a job waits, runs or ended: its plan, its conditions, its events.")
_on_one_job("run-now", "Skip the wait: start as soon as there is room.")
_on_one_job("hold", "Pause a job, or keep it from starting, until it is released.")
_on_one_job("release", "Let a held job go on.")
_on_one_job("cancel", "Delete a job: what runs of it is ended, and its name is free; its accounts stay in the ledger.")


@app.command()
def report(
    output: Annotated[ReportOutput, typer.Option("--output", "-o", help="table, json or csv.")] = ReportOutput.TABLE,
    demo: Annotated[bool, typer.Option("--include-demo", help="Demonstrations too, marked as such.")] = False,
    database: Annotated[str, typer.Option(help="The ledger; default: this machine's.")] = "",
    name: Annotated[str, typer.Option(help="One job: its receipt, every interval of it.")] = "",
    export: Annotated[
        str, typer.Option(metavar="FILE", help="Write the receipts for windward-verify instead; - is stdout.")
    ] = "",
) -> None:
    """Account for ended jobs: energy, grams, saving, method; each figure with what it was computed from."""
    from windward.cli.report import report as run

    run(output, demo, database, name, export)


@app.command()
def settle(provider: Provider = "", trace: Trace = None, output: Json = Output.TABLE) -> None:
    """Weigh ended jobs of this machine anew, and say which receipts became final.

    Each is weighed by the source that it was run with; --provider and --trace are for those that had none.
    """
    from windward.cli.settle import settle as run
    from windward.cli.sources import Source

    run(Source.chosen(provider, trace) if provider or trace is not None else None, output)


@app.command()
def simulate(
    fleet: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Jobs trace (CSV: submit_s, duration_s, gpus or cpus); default: a drawn fleet."),
    ] = None,
    zones: Annotated[str, typer.Option(help="Grid zones, one region each; default: all of the recording.")] = "",
    jobs: Annotated[int, typer.Option(help="Jobs that arrive.", min=1, max=1_000_000)] = 300,
    days: Annotated[int, typer.Option(help="Days over which they arrive.", min=1, max=366)] = 14,
    start: Annotated[str, typer.Option(help="First day (RFC 3339); default: four weeks into the recording.")] = "",
    util: Annotated[float, typer.Option(help="Mean load over capacity.", callback=finite(0, 10, above=True))] = 0.6,
    pausable: Annotated[float, typer.Option(help="Share of jobs that may be paused.", callback=finite(0, 1))] = 0.3,
    faults: Annotated[
        str, typer.Option(help="late_jobs=0.05,wrong_durations=0.2,lost_nodes_per_day=0.1,outage_share=0.05,...")
    ] = "",
    policy: Policies = "all",
    foresight: Knows = "own",
    trace: Recorded = None,
    step: Step = "1h",
    seed: Seed = 0,
    page: Page = None,
    output: Json = Output.TABLE,
) -> None:
    """Simulate a fleet over a past year under several policies: the operator's own loop, a simulated world."""
    from windward.cli.simulate import Study, simulate_fleet

    study = Study(policy, foresight, trace, step, seed, page, output)
    simulate_fleet(study, fleet, zones, jobs, days, start, util, pausable, faults)


@app.command()
def backtest(
    file: Files,
    zone: Annotated[Optional[list[str]], typer.Option(help="Run it in these grid zones, home first.")] = None,  # noqa: UP045
    year: Annotated[int, typer.Option(help="Year of the recording.", min=1971, max=8999)] = 2022,
    every: Annotated[str, typer.Option(help="Submit it this often; default: 25h, which meets all hours.")] = "",
    policy: Policies = "all",
    foresight: Knows = "own",
    trace: Recorded = None,
    step: Step = "1h",
    page: Page = None,
    output: Json = Output.TABLE,
) -> None:
    """Show what each policy would have saved of your own job, submitted again and again over a past year."""
    from windward.cli.simulate import Study
    from windward.cli.simulate import backtest as run

    run(Study(policy, foresight, trace, step, 0, page, output), file, zone or [], year, every)


app.add_typer(providers_app, name="providers")
app.add_typer(zones_app, name="zones")


@app.command()
def doctor(context: Context = "", kubeconfig: Kubeconfig = None, output: Json = Output.TABLE) -> None:
    """Check meters, carbon data, state, cluster and extras; a fix beside each fault."""
    from windward.cli.doctor import doctor as run

    raise typer.Exit(run(output, context, kubeconfig))


@app.command()
def crd(
    output: Annotated[CrdOutput, typer.Option("--output", "-o", help="yaml or json.")] = CrdOutput.YAML,
) -> None:
    """Print the CustomResourceDefinitions."""
    from windward_api.crd import render

    documents = render().values()
    if output == CrdOutput.JSON:
        import json

        import yaml

        items = [yaml.safe_load(d) for d in documents]
        typer.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2))
    else:
        typer.echo("---\n".join(documents), nl=False)


@app.command()
def version(output: Json = Output.TABLE) -> None:
    """Print the version."""
    from windward import __version__

    if output == Output.JSON:
        import json

        typer.echo(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "Version", "version": __version__}))
    else:
        typer.echo(f"windward {__version__}")


def main() -> None:
    """Run a command; every error leaves as error, cause, fix and an exit code."""
    import logging

    from windward.cli.guard import guarded

    # Trouble that matters is told by the commands in their own words.
    level = os.environ.get("WINDWARD_LOG_LEVEL", "CRITICAL").upper()
    level = level if level in logging.getLevelNamesMapping() else "CRITICAL"
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    code = guarded(lambda: app(standalone_mode=False))
    if code:
        sys.exit(code)
