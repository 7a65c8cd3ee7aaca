"""The worker's command line: `windward-worker exec | train | infer | serve | measure | quantize | pareto`.

torch is imported by the commands that need it, after the signal handlers stand: a pause that comes while libraries
load is not lost.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from windward_api.contract import Outcome, Progress, Report
from windward_worker.compress.commands import COMMANDS, add_commands, run_command
from windward_worker.control import PauseRequest, Refused, RunEnv, read_env, write_report
from windward_worker.control.logs import Limited
from windward_worker.control.report import short
from windward_worker.execution.run import EXIT_REFUSED
from windward_worker.serve.settings import add_arguments, settings_from

S = TypeVar("S", bound=BaseModel)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="windward-worker", description="Runs work under Windward's contract.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("exec", help="run any command: meter it, pass a pause on, report for it")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD ARGS...")
    for name, what in (
        ("train", "train a model, resuming from its checkpoint"),
        ("infer", "answer prompts, resuming by line"),
        ("measure", "prepare a training's data and time its steps"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--spec", required=True, help="the GreenJob's train or infer part, as JSON")
    add_arguments(commands.add_parser("serve", help="answer over HTTP in OpenAI's words, until SIGTERM"))
    add_commands(commands)
    return parser


def _spec(kind: type[S], text: str) -> S:
    """Raises Refused with one line for each fault: where, what, and for a wrong name the right ones."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_url=False):
            where = ".".join(str(x) for x in fault["loc"]) or "the JSON"
            fix = (
                f" (known here: {', '.join(_known(kind, fault['loc'][:-1]))})"
                if fault["type"] == "extra_forbidden"
                else ""
            )
            lines.append(f"  {where}: {fault['msg']}{fix}")
        heading = f"--spec is no valid {kind.__name__}; correct these and run again:"
        raise Refused("\n".join([heading, *lines])) from error


def _known(kind: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Field names, as written in JSON, of the model at a place inside `kind`."""
    for key in place:
        for name, field in kind.model_fields.items():
            if key in (name, field.alias) and isinstance(field.annotation, type):
                kind = field.annotation
    return [field.alias or name for name, field in kind.model_fields.items()]


def _run(arguments: argparse.Namespace, env: RunEnv, pause: PauseRequest) -> int:
    if arguments.command == "exec":
        from windward_worker.execution.supervise import supervise

        command = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
        if not command:
            raise Refused("exec: no command given; write it after --, such as: windward-worker exec -- python job.py")
        return supervise(command, env, pause)
    if arguments.command == "infer":
        from windward_api.workload import InferSpec

        infer_spec = _spec(InferSpec, arguments.spec)
        from windward_worker.inference import infer

        return infer(infer_spec, env, pause)
    if arguments.command == "serve":
        settings = settings_from(arguments, os.environ)
        from windward_worker.serve import serve

        return serve(settings, env, pause)
    if arguments.command in COMMANDS:
        return run_command(arguments)
    from windward_api.workload import TrainSpec

    spec = _spec(TrainSpec, arguments.spec)
    from windward_worker.train import measure, train

    if arguments.command == "train":
        return train(spec, env, pause)
    sys.stdout.write(measure(spec, env) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 75 paused, 2 refused, else failed."""
    pause = PauseRequest().install()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        if not any(isinstance(each, Limited) for each in handler.filters):
            handler.addFilter(Limited())
    arguments = _parser().parse_args(argv)
    env = None
    try:
        env = read_env(os.environ)
        return _run(arguments, env, pause)
    except Refused as error:
        sys.stderr.write(f"windward-worker: {error}\n")
        if env is not None and arguments.command not in ("measure", *COMMANDS):
            failed = Report(outcome=Outcome.FAILED, progress=Progress(fraction=0), message=short(str(error)))
            write_report(env.report_file, failed)
        return EXIT_REFUSED
