"""The command line: `windward`, and `kubectl greenjob`. Data goes to stdout, all else to stderr."""

from windward.cli.app import main

__all__ = ["main"]
