"""A throwaway PostgreSQL server of the tests' own: data in a temporary folder, a free port on this machine only."""

import itertools
import os
import pwd
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from ports import free_ports

_numbers = itertools.count()


def binaries() -> Path | None:
    """Folder of initdb and pg_ctl: on the path, or where Debian puts it (package `postgresql`)."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return folders[-1].parent if folders else None


@contextmanager
def server(bin_dir: Path, folder: Path):
    """Yields the URL of a running server."""
    owner = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"

    def run(*command):
        with (folder / "tool.log").open("a") as log:
            done = subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False, timeout=120, **owner)
        assert done.returncode == 0, (folder / "tool.log").read_text()

    run(bin_dir / "initdb", "-D", data, "-U", "windward", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    (port,) = free_ports(1)
    # Another time zone than UTC, so that a test sees when ours is not forced.
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    options += " -c timezone=America/New_York -c shared_buffers=16MB"
    run(bin_dir / "pg_ctl", "-D", data, "-o", options, "-l", folder / "server.log", "-w", "start")
    try:
        yield f"postgresql://windward@127.0.0.1:{port}"
    finally:
        run(bin_dir / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def fresh_database(server):
    """URL of a new, empty database."""
    import psycopg

    name = f"book{next(_numbers)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"
