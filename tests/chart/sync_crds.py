"""`python tests/chart/sync_crds.py`: copies the generated CRDs into the chart, which may only read its own folder."""

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
GENERATED = REPOSITORY / "crds"
COPIES = REPOSITORY / "charts" / "windward" / "crds-files"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.yaml"))}


def main() -> None:
    for gone in contents(COPIES).keys() - contents(GENERATED).keys():
        (COPIES / gone).unlink()
    for name in contents(GENERATED):
        shutil.copyfile(GENERATED / name, COPIES / name)


if __name__ == "__main__":
    main()
