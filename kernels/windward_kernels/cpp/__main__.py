"""`python -m windward_kernels.cpp FOLDER`: build the extension ahead, for every processor, into a folder."""

import sys
from pathlib import Path

from windward_kernels.cpp.build import build, library_name

if len(sys.argv) != 2:
    sys.exit("usage: python -m windward_kernels.cpp FOLDER   (then set WINDWARD_KERNELS_DIR=FOLDER)")
folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)  # as the umask has it: in an image, others than its builder read it
sys.stdout.write(f"{build(folder / library_name(), ())}\n")
