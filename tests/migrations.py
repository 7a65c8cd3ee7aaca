"""What tests of both databases, of the state file and of the book, ask of their migrations and their opening."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic.config import Config
from alembic.script import ScriptDirectory

T = TypeVar("T")


def heads(folder: Path) -> list[str]:
    """The migrations of a folder after which there is no other."""
    config = Config()
    config.set_main_option("script_location", str(folder))
    return list(ScriptDirectory.from_config(config).get_heads())


def opened_at_once(opening: Callable[[], T]) -> list[T]:
    """What three threads that open the same at once get; none may fail."""
    opened: list[T] = []
    failures: list[Exception] = []

    def one() -> None:
        try:
            opened.append(opening())
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == [] and len(opened) == 3
    return opened
