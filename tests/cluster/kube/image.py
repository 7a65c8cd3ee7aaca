"""Container images without an engine and without their gigabytes.

An image here is a few links and files. What runs in it is this machine's: the node mounts the machine's programs and
the Python installation at their own places, the virtual environment and this repository below `/lent` (a pod may mount
over the places that they have here, such as /tmp), read-only, into every container (`host_mounts`). A pod that asks for
the chart's image therefore finds `windward-operator` in PATH, as in the real one, and neither the chart nor the
operator can tell.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TOP = ("bin", "sbin", "lib", "lib32", "lib64")  # links into /usr on most systems, folders on some
VENV, SOURCE = "/lent/venv", "/lent/source"
SCRIPTS = {
    "windward": "windward.cli",
    "windward-operator": "windward.service.main",
    "windward-worker": "windward_worker.cli",
}
UID = 65532
LOADER_CACHE = Path("/etc/ld.so.cache")
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    name: str
    entrypoint: tuple[str, ...] = ()
    user: str = f"{UID}:{UID}"
    files: tuple[tuple[str, Path], ...] = ()  # (place, file of this machine), executable


def host_mounts() -> list[tuple[str, str]]:
    """Folders of this machine that every container sees: (here, there)."""
    own = {Path("/usr"), Path(sys.base_prefix).resolve()}
    own |= {Path("/", name) for name in TOP if Path("/", name).is_dir() and not Path("/", name).is_symlink()}
    same = sorted(str(one) for one in own if not any(other in one.parents for other in own))
    return [(one, one) for one in same] + [(str(Path(sys.prefix).resolve()), VENV), (str(REPOSITORY), SOURCE)]


def runtime_spec(default: str) -> str:
    """containerd's default container specification (what `ctr oci spec` prints) with the machine's folders added."""
    spec = json.loads(default)
    spec["mounts"] += [
        {"destination": there, "source": here, "type": "bind", "options": ["rbind", "ro"]}
        for here, there in host_mounts()
    ]
    return json.dumps(spec)


def write_archive(images: list[Image], out: Path) -> None:
    """An OCI archive of all the images."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, media: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"application/vnd.oci.image.{media}", "digest": f"sha256:{digest}", "size": len(data)}

    entries = []
    for image in images:
        layer = blob(_layer(image), "layer.v1.tar")
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob(_config(image, str(layer["digest"])), "config.v1+json"),
            "layers": [layer],
        }
        entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
        entry["annotations"] = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name}
        entries.append(entry)
    with tarfile.open(out, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
        for digest, data in blobs.items():
            _add(archive, f"blobs/sha256/{digest}", data)


def _config(image: Image, layer: str) -> bytes:
    path = ":".join(["/windward/bin", f"{VENV}/bin", "/usr/local/bin", "/usr/bin", "/bin"])
    packages = ":".join(f"{SOURCE}/{top}" for top in ("crds", "operator", "workers", "kernels"))
    config = {
        "architecture": ARCHITECTURE.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": list(image.entrypoint),
            "User": image.user,
            "Env": [f"PATH={path}", f"PYTHONPATH={packages}", "PYTHONSAFEPATH=1", "PYTHONUNBUFFERED=1"],
        },
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    }
    return json.dumps(config).encode()


def _layer(image: Image) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for name in TOP:
            if Path("/", name).is_symlink():
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, str(Path("/", name).readlink())
                layer.addfile(link)
        for folder, mode in (("usr", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("home", 0o755)):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            layer.addfile(info)
        _add(layer, "etc/passwd", f"root:x:0:0::/root:/bin/sh\nwindward:x:{UID}:{UID}::/tmp:/bin/sh\n".encode())
        _add(layer, "etc/group", f"root:x:0:\nwindward:x:{UID}:\n".encode())
        # Libraries in places that the dynamic loader does not know by itself.
        if LOADER_CACHE.is_file():
            _add(layer, str(LOADER_CACHE).lstrip("/"), LOADER_CACHE.read_bytes())
        for name, module in SCRIPTS.items():
            _add(layer, f"windward/bin/{name}", _script(module).encode(), mode=0o755)
        for place, file in image.files:
            _add(layer, place, file.read_bytes(), mode=0o755)
    return buffer.getvalue()


def _script(module: str) -> str:
    """What an installation writes for a console script, at the places that the container knows."""
    return f"#!/bin/sh\nexec {VENV}/bin/python -c 'import sys; from {module} import main; sys.exit(main())' \"$@\"\n"


def _add(archive: tarfile.TarFile, path: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))
