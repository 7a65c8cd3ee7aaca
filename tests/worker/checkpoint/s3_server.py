"""A real S3 server: the Versity S3 gateway over a folder, built from its Go module into the cache of the test cluster.

Objects are plain files below the folder, so that a test can damage them. It honours `If-None-Match: *` by a link that
fails where a file is (its own tests race for it, and so does `test_every_number_is_taken_once`).
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import time
from pathlib import Path

from cluster.kube.build import Builder, cached

VERSION = "v1.8.0"
KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
BUCKET = "bucket"


def _build(builder: Builder) -> None:
    builder.command("versitygw", "github.com/versity/versitygw", VERSION, "cmd/versitygw")


def server_binary() -> Path:
    """The server, building it when it is not there yet: two minutes of one processor. Raises Unavailable."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    return cached("s3", recipe, f"Versity S3 gateway {VERSION}", _build) / "versitygw"


class S3Server:
    """The server on a free port of the loopback, until `stop`.

    Attributes:
        environ: what a client needs: endpoint, region, credentials.
        files: where the objects of the bucket lie.
    """

    def __init__(self, binary: Path, folder: Path) -> None:
        self.files = folder / BUCKET
        self.files.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        root = {"ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]}
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [binary, "--quiet", "--port", f"127.0.0.1:{self.port}", "posix", folder],
            env={**os.environ, **root},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.environ = {
            **KEYS,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
        }
        end = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()
