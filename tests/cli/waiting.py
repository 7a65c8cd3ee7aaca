"""Commands that wait on the real clock, in processes of their own, by a recording whose cleaner hours are to come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

PATIENCE_S = 60.0
RUN = "import sys; sys.argv[0] = 'windward'; from windward.cli import main; main()"


def recording(folder: Path, zones: tuple[str, ...] = ("GB", "PL")) -> Path:
    """A user's own recording: dirty now, clean from five hours on. GB is ten times as clean as PL."""
    folder.mkdir()
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    rows = ["zone,timestamp_utc,carbon_intensity_gco2_kwh"]
    for zone in zones:
        scale = 10 if zone == "PL" else 1
        for h in range(-100, 100):
            rows.append(f"{zone},{now + timedelta(hours=h):%Y-%m-%dT%H:%M:%SZ},{scale * (80 if h < 5 else 20)}")
    (folder / "own.csv").write_text("\n".join(rows) + "\n")
    kind = {"signal": "Average", "scope": "LifeCycle", "basis": "Consumption"}
    (folder / "trace.json").write_text(json.dumps(kind))
    return folder / "own.csv"


class Machine:
    """A laptop: a state folder, a work folder, a recording, and commands that come and go."""

    def __init__(self, folder: Path) -> None:
        self.home, self.work = folder / "home", folder / "work"
        self.work.mkdir()
        self.trace = recording(folder / "trace")
        self.children: list[subprocess.Popen[str]] = []

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("WINDWARD_") and k != "KUBECONFIG"}
        return kept | {"WINDWARD_HOME": str(self.home), "HOME": str(self.home.parent)}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-c", RUN, *arguments]

    def windward(self, *arguments: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=cwd or self.work, env=self.environment | more, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip

    def waits(self, *arguments: str, log: str = "waits") -> subprocess.Popen[str]:
        """Start a command and return when its job waits for a cleaner hour."""
        path = self.work / f"{log}.err"
        with path.open("w") as err:
            child = subprocess.Popen(
                self.command(*arguments), cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=err, text=True,
            )  # fmt: skip
        self.children.append(child)
        self.until(lambda: "CleanerWindow" in path.read_text() or child.poll() is not None)
        assert child.poll() is None, path.read_text()
        return child

    def said(self, log: str = "waits") -> str:
        return (self.work / f"{log}.err").read_text()

    def jobs(self) -> dict[str, dict[str, object]]:
        items = json.loads(self.windward("list", "-o", "json").stdout)["items"]
        return {i["name"]: i for i in items}

    def state(self, name: str) -> tuple[str, str]:
        summary = self.jobs()[name]["status"]["summary"]  # type: ignore[index]
        return summary["state"], summary["reason"]

    def runs(self, name: str) -> bool:
        """Whether the job is there and runs: its database comes before its row."""
        return (self.home / "local.db").exists() and name in self.jobs() and self.state(name)[0] == "Running"

    @staticmethod
    def until(reached: object) -> None:
        assert callable(reached)
        end = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    def close(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
