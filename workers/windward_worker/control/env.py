"""The environment of a run, read once. Its names are the contract's (`windward_api.contract`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from windward_api import contract
from windward_worker.control.errors import Refused


@dataclass(frozen=True, slots=True)
class RunEnv:
    """What the control plane tells a run. Folders, files and URIs are absent where it does not use them."""

    job: str  # namespace/name
    run: str  # fencing token
    checkpoint_dir: Path | None
    storage_dir: Path | None
    checkpoint_uri: str | None  # in place of the folders: where the storage is an object store
    storage_uri: str | None
    report_file: Path | None
    progress_file: Path | None
    exit_file: Path | None
    power_w: float | None

    @property
    def job_name(self) -> str:
        return self.job.rpartition("/")[2]

    def need_checkpoint_dir(self) -> Path:
        if self.checkpoint_dir is None and self.checkpoint_uri is not None:
            raise Refused(
                f"this command keeps its state in a folder, and {contract.ENV_CHECKPOINT_URI} names an object store: "
                "name a volume in spec.storage.claimName"
            )
        return _need(self.checkpoint_dir, contract.ENV_CHECKPOINT_DIR, "a folder kept over the job's runs")

    def need_storage_dir(self) -> Path:
        return _need(self.storage_dir, contract.ENV_STORAGE_DIR, "the folder of inputs, models and outputs")

    def inside_storage(self, relative: str) -> Path:
        """The path under the storage. Raises Refused where it leads outside, through `..` or a link."""
        root = self.need_storage_dir().resolve()
        path = (root / relative).resolve()
        if not path.is_relative_to(root):
            raise Refused(
                f"path {relative!r} leads outside the storage; name a file under it, without '..' or links out"
            )
        return path


_INSTEAD = (
    (contract.ENV_CHECKPOINT_DIR, contract.ENV_CHECKPOINT_URI),
    (contract.ENV_STORAGE_DIR, contract.ENV_STORAGE_URI),
)


def _need(folder: Path | None, variable: str, what: str) -> Path:
    if folder is None:
        raise Refused(f"{variable} is not set: this command needs {what}; set it to an existing or new folder")
    return folder


def read_env(environ: Mapping[str, str]) -> RunEnv:
    """Parse the contract's variables.

    Raises Refused for a power that is no positive number of watts, and for both a folder and a URI of one thing.
    """

    def path(name: str) -> Path | None:
        value = environ.get(name, "")
        return Path(value).absolute() if value else None

    power_w: float | None = None
    if text := environ.get(contract.ENV_POWER_WATTS, ""):
        try:
            power_w = float(text)
        except ValueError:
            power_w = -1.0
        if not 0 < power_w < 1e7:
            raise Refused(f"{contract.ENV_POWER_WATTS}={text!r} is no plausible power; give watts, such as 350")
    for folder, uri in _INSTEAD:
        if environ.get(folder) and environ.get(uri):
            raise Refused(f"{folder} and {uri} are both set: unset one, as only one can hold it")
    return RunEnv(
        job=environ.get(contract.ENV_JOB) or "default/local",
        run=environ.get(contract.ENV_RUN) or "local-1",
        checkpoint_dir=path(contract.ENV_CHECKPOINT_DIR),
        storage_dir=path(contract.ENV_STORAGE_DIR),
        checkpoint_uri=environ.get(contract.ENV_CHECKPOINT_URI) or None,
        storage_uri=environ.get(contract.ENV_STORAGE_URI) or None,
        report_file=path(contract.ENV_REPORT_FILE),
        progress_file=path(contract.ENV_PROGRESS_FILE),
        exit_file=path(contract.ENV_EXIT_FILE),
        power_w=power_w,
    )
