"""Every error leaves as error, cause, fix and an exit code; nothing else reaches the user."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from windward.cli.errors import CliError, Exit, usage_error


def guarded(run: Callable[[], Any]) -> int:
    """Run a command; tells what went wrong. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter gets its code
    try:
        code = run()
        sys.stdout.flush()
        return int(code) if isinstance(code, int) else Exit.OK
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else Exit.OK if e.code is None else Exit.FAILED
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as e:
        if os.environ.get("WINDWARD_DEBUG"):
            raise
        cli_error = _cli_error(e)
        cli_error.tell()
        return cli_error.code


def _cli_error(error: Exception) -> CliError:
    if isinstance(error, CliError):
        return error
    if hasattr(error, "format_message"):
        return _usage(error)
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename else ""
        cause = error.strerror or str(error)
        return CliError(f"cannot use{where or ' a file'}", cause=cause, fix="check the path, its rights and the disk")
    kind = type(error).__name__
    if kind == "StateError" or isinstance(error, sqlite3.Error):
        fix = (
            "set WINDWARD_HOME to a folder that you may write, or move the broken file away; windward doctor checks it"
        )
        return CliError("the local state cannot be used", cause=str(error), fix=fix)
    fix = "please report it, with what WINDWARD_DEBUG=1 prints"
    return CliError("this is a fault of Windward", cause=f"{kind}: {error}", fix=fix)


def _usage(error: Any) -> CliError:
    """What the command line parser refused, with the nearest thing that it knows."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "windward"
    message = " ".join(str(error.format_message()).split())
    fix = f"{path} --help"
    option, command = getattr(error, "option_name", None), getattr(context, "command", None)
    if option is not None and path.endswith(" run"):
        fix = f"put -- before the command and its own options, as in: windward run --zone GB -- python3 {option} ..."
    elif command is not None and hasattr(command, "commands"):
        words = [a for a in sys.argv[1:] if not a.startswith("-")]
        near = get_close_matches(words[-1] if words else "", list(command.commands), n=1)
        fix = f"{path} {near[0]} --help" if near else fix
    return usage_error(message, fix=fix)
