"""Keys, certificates and kubeconfigs of one cluster, made with the openssl command."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
DAYS = ("-days", "30")


def _openssl(*args: str | Path) -> None:
    subprocess.run(["openssl", *args], check=True, capture_output=True, stdin=subprocess.DEVNULL)


class Pki:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.crt"
        _openssl("req", "-x509", *KEY, "-keyout", folder / "ca.key", "-out", self.ca, "-subj", "/CN=test", *DAYS)

    def certificate(self, name: str, subject: str, alternatives: Sequence[str] = ()) -> tuple[Path, Path]:
        """A certificate for both ends of a connection and its key; `alternatives` like `IP:127.0.0.1`."""
        certificate, key, request, extensions = (self.folder / f"{name}.{end}" for end in ("crt", "key", "csr", "ext"))
        lines = ["extendedKeyUsage=serverAuth,clientAuth"]
        if alternatives:
            lines.append("subjectAltName=" + ",".join(alternatives))
        extensions.write_text("\n".join(lines) + "\n")
        _openssl("req", *KEY, "-keyout", key, "-out", request, "-subj", subject)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial"),
            *(*DAYS, "-out", certificate, "-extfile", extensions),
        )
        return certificate, key

    def signing_pair(self, name: str) -> tuple[Path, Path]:
        """A private and a public key, for service-account tokens."""
        private, public = self.folder / f"{name}.key", self.folder / f"{name}.pub"
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", private)
        _openssl("pkey", "-in", private, "-pubout", "-out", public)
        return private, public

    def kubeconfig(self, path: Path, server: str, pair: tuple[Path, Path]) -> Path:
        """A kubeconfig with everything inside; JSON is YAML."""

        def inline(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {"name": "test", "cluster": {"server": server, "certificate-authority-data": inline(self.ca)}}
            ],
            "users": [
                {
                    "name": "test",
                    "user": {"client-certificate-data": inline(pair[0]), "client-key-data": inline(pair[1])},
                }
            ],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(json.dumps(body, indent=1))
        path.chmod(0o600)
        return path
