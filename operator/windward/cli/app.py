"""The commands. Each imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from windward.cli.errors import CliError, Exit

app = typer.Typer(
    name="windward",
    help="Runs each job where and when it emits least, and finishes in time.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Output = Annotated[str, typer.Option("--output", "-o", help="table or json.")]
Files = Annotated[list[Path], typer.Option("--file", "-f", help="Manifest; repeat for several; - reads stdin.")]
At = Annotated[str, typer.Option("--at", help="Plan as of this time (RFC 3339); default: now.")]
Provider = Annotated[str, typer.Option(help="Source of carbon data, as in windward providers list.")]
Trace = Annotated[Optional[Path], typer.Option(help="Your own recording for --provider trace.")]  # noqa: UP045
Local = Annotated[bool, typer.Option("--local/--cluster", help="This machine, or the cluster of your kubeconfig.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace.")]
Speed = Annotated[float, typer.Option(help="Clock speed: planned seconds per real second.")]
Start = Annotated[str, typer.Option(help="Planned time at which a warped clock begins (RFC 3339).")]

# As `kubectl greenjob` the cluster is meant; as `windward` this machine.
_LOCAL = not Path(sys.argv[0]).name.startswith("kubectl")


@app.command()
def demo(
    speed: Annotated[float, typer.Option(help="Clock speed; 0: chosen for this machine.")] = 0.0,
    keep: Annotated[Optional[Path], typer.Option(help="Keep the demo's state in this folder.")] = None,  # noqa: UP045
    plain: Annotated[bool, typer.Option(help="Plain commands even where torch is installed.")] = False,
    output: Output = "table",
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
        str, typer.Option(help="Height of the strips: shared by all zones, or each zone its own.")
    ] = "shared",
    at: At = "",
    provider: Provider = "trace",
    trace: Trace = None,
    output: Output = "table",
) -> None:
    """Show the coming intensity of zones as strips, with the best window."""
    from windward.cli.forecast import forecast as run

    run(zones or [], horizon, duration, scale, at, provider, trace, output)


@app.command()
def plan(
    file: Files,
    check: Annotated[bool, typer.Option(help="Exit with 3 if a job cannot finish in time.")] = False,
    at: At = "",
    provider: Provider = "trace",
    trace: Trace = None,
    output: Output = "table",
) -> None:
    """Show when and where jobs would run, what else was weighed and why; submits nothing."""
    from windward.cli.plan import plan as run

    run(file, check=check, at=at, provider=provider, trace=trace, output=output)


@app.command()
def run(
    command: Annotated[Optional[list[str]], typer.Argument(help="Command to run, after --.")] = None,  # noqa: UP045
    file: Annotated[Optional[list[Path]], typer.Option("--file", "-f", help="Manifest instead of a command.")] = None,  # noqa: UP045
    duration: Annotated[str, typer.Option(help="How long the command takes.")] = "",
    deadline: Annotated[str, typer.Option(help="Finish within this time, or by this time (RFC 3339).")] = "",
    zone: Annotated[str, typer.Option(help="Grid zone of this machine, such as GB or DE.")] = "",
    watts: Annotated[int, typer.Option(help="What the command draws.")] = 100,
    name: Annotated[str, typer.Option(help="Name of the job; the same name goes on with the same job.")] = "",
    pausable: Annotated[bool, typer.Option(help="The command honours SIGTERM, checkpoint, exit 75.")] = False,
    provider: Provider = "trace",
    trace: Trace = None,
    speed: Speed = 1.0,
    start: Start = "",
    output: Output = "table",
) -> None:
    """Run a command or a manifest on this machine: wait for the clean hours, run, meter, receipt."""
    from windward.cli.run import World, run_command, run_files

    world = World(provider, trace, speed, start)
    if file:
        code = run_files(file, world, output)
    else:
        code = run_command(command or [], duration, deadline, zone, watts, name, world, output, pausable=pausable)
    raise typer.Exit(code)


@app.command()
def apply(
    file: Files,
    local: Local = _LOCAL,
    provider: Provider = "trace",
    trace: Trace = None,
    speed: Speed = 1.0,
    start: Start = "",
    output: Output = "table",
) -> None:
    """Submit manifests: to the cluster, or run them on this machine to the end."""
    if local:
        from windward.cli.run import World, run_files

        raise typer.Exit(run_files(file, World(provider, trace, speed, start), output))
    from windward.cli.remote import apply_files

    apply_files(file, output)


@app.command("list")
def list_jobs(local: Local = _LOCAL, namespace: Namespace = "", output: Output = "table") -> None:
    """List GreenJobs with state, reason, planned start, grams and saving."""
    from windward.cli.listing import list_jobs as run

    run(local, namespace, output)


@app.command()
def why(name: str, local: Local = _LOCAL, namespace: Namespace = "default", output: Output = "table") -> None:
    """Say why a job waits, runs or ended: its plan, its conditions, its events."""
    from windward.cli.listing import why as run

    run(name, local, namespace, output)


@app.command("run-now")
def run_now(name: str, local: Local = _LOCAL, namespace: Namespace = "default") -> None:
    """Skip the wait: start as soon as there is room."""
    from windward.cli.change import change

    change(name, local, namespace, annotations={"windward.dev/run-now": "true"}, said="starts at the next look")


@app.command()
def hold(name: str, local: Local = _LOCAL, namespace: Namespace = "default") -> None:
    """Pause a job, or keep it from starting, until it is released."""
    from windward.cli.change import change

    change(name, local, namespace, spec={"suspend": True}, said="is held; windward release undoes it")


@app.command()
def release(name: str, local: Local = _LOCAL, namespace: Namespace = "default") -> None:
    """Let a held job go on."""
    from windward.cli.change import change

    change(name, local, namespace, spec={"suspend": False}, said="goes on as planned")


@app.command()
def report(
    output: Annotated[str, typer.Option("--output", "-o", help="table, json or csv.")] = "table",
    demo: Annotated[bool, typer.Option("--include-demo", help="Demonstrations too, marked as such.")] = False,
    database: Annotated[str, typer.Option(help="The book; default: this machine's.")] = "",
    name: Annotated[str, typer.Option(help="One job: its receipt, every interval of it.")] = "",
) -> None:
    """Account for ended jobs: energy, grams, saving, method; each figure with what it was computed from."""
    from windward.cli.report import report as run

    run(output, demo, database, name)


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
Seed = Annotated[int, typer.Option(help="Draws of the fleet and of faults.")]


@app.command()
def simulate(
    fleet: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Jobs trace (CSV: submit_s, duration_s, gpus or cpus); default: a drawn fleet."),
    ] = None,
    zones: Annotated[str, typer.Option(help="Grid zones, one region each; default: all of the recording.")] = "",
    jobs: Annotated[int, typer.Option(help="Jobs that arrive.")] = 300,
    days: Annotated[int, typer.Option(help="Days over which they arrive.")] = 14,
    start: Annotated[str, typer.Option(help="First day (RFC 3339); default: four weeks into the recording.")] = "",
    util: Annotated[float, typer.Option(help="Mean load over capacity.")] = 0.6,
    pausable: Annotated[float, typer.Option(help="Share of jobs that may be paused.")] = 0.3,
    faults: Annotated[
        str, typer.Option(help="late_jobs=0.05,wrong_durations=0.2,lost_nodes_per_day=0.1,outage_share=0.05,...")
    ] = "",
    policy: Policies = "all",
    foresight: Knows = "own",
    trace: Recorded = None,
    step: Step = "1h",
    seed: Seed = 0,
    page: Page = None,
    output: Output = "table",
) -> None:
    """Simulate a fleet over a past year under several policies: the operator's own loop, a simulated world."""
    from windward.cli.simulate import Study, simulate_fleet

    study = Study(policy, foresight, trace, step, seed, page, output)
    simulate_fleet(study, fleet, zones, jobs, days, start, util, pausable, faults)


@app.command()
def backtest(
    file: Files,
    zone: Annotated[Optional[list[str]], typer.Option(help="Run it in these grid zones, home first.")] = None,  # noqa: UP045
    year: Annotated[int, typer.Option(help="Year of the recording.")] = 2022,
    every: Annotated[str, typer.Option(help="Submit it this often; 25h meets every hour of the day.")] = "25h",
    policy: Policies = "all",
    foresight: Knows = "own",
    trace: Recorded = None,
    step: Step = "1h",
    page: Page = None,
    output: Output = "table",
) -> None:
    """Show what each policy would have saved of your own job, submitted again and again over a past year."""
    from windward.cli.simulate import Study
    from windward.cli.simulate import backtest as run

    run(Study(policy, foresight, trace, step, 0, page, output), file, zone or [], year, every)


providers_app = typer.Typer(help="Sources of carbon data.", no_args_is_help=True)
app.add_typer(providers_app, name="providers")


@providers_app.command("list")
def providers_list(output: Output = "table") -> None:
    """Show all sources and what each needs."""
    from windward.cli.providers import providers_list as run

    run(output)


@providers_app.command("test")
def providers_test(
    name: Annotated[str, typer.Argument(help="Source, or several joined by commas; see providers list.")],
    zone: Annotated[str, typer.Option(help="Grid zone to ask for; default: the source's first.")] = "",
    trace: Trace = None,
    output: Output = "table",
) -> None:
    """Ask a source for a forecast and the last day, as the operator would."""
    from windward.cli.providers import providers_test as run

    run(name, zone, trace, output)


zones_app = typer.Typer(help="Grid zones of cloud regions.", no_args_is_help=True)
app.add_typer(zones_app, name="zones")


@zones_app.command("search")
def zones_search(
    words: Annotated[Optional[list[str]], typer.Argument(help="Part of a region, place or zone.")] = None,  # noqa: UP045
    output: Annotated[str, typer.Option("--output", "-o", help="table, json, or yaml (GreenRegions).")] = "table",
) -> None:
    """Find the grid zone and the PUE of a cloud region."""
    from windward.cli.zones import zones_search as run

    run(" ".join(words or []), output)


@app.command()
def doctor(output: Output = "table") -> None:
    """Check meters, carbon data, state, cluster and extras; a fix beside each fault."""
    from windward.cli.doctor import doctor as run

    raise typer.Exit(run(output))


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinitions."""
    from windward_api.crd import render

    typer.echo("---\n".join(render().values()), nl=False)


@app.command()
def version() -> None:
    """Print the version."""
    from windward import __version__

    typer.echo(f"windward {__version__}")


def main() -> None:
    """Run a command; every error leaves as error, cause, fix and an exit code."""
    import logging

    # Trouble that matters is told by the commands in their own words.
    logging.basicConfig(level=os.environ.get("WINDWARD_LOG_LEVEL", "CRITICAL"), format="%(name)s: %(message)s")
    try:
        app(standalone_mode=True)
    except CliError as e:
        e.tell()
        sys.exit(e.code)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.OK)
