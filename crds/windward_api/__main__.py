"""`python -m windward_api [CRDS [REFERENCE]]` writes the CRDs into a folder, and the reference page of their fields."""

import sys
from pathlib import Path

from windward_api.crd import render
from windward_api.reference import reference


def main(arguments: list[str]) -> None:
    """Writes into the folder and the file that are named; by default into `crds` and `docs/reference.md`."""
    folder = Path(arguments[0] if arguments else "crds")
    page = Path(arguments[1] if len(arguments) > 1 else "docs/reference.md")
    for path, text in [*((folder / name, text) for name, text in render().items()), (page, reference())]:
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
