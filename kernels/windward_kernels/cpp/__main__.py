"""`python -m windward_kernels.cpp FOLDER`: build the extension ahead, for every processor, into a folder."""

import sys
from pathlib import Path

from windward_kernels.cpp.build import build, library_name

if len(sys.argv) != 2:
    sys.exit("usage: python -m windward_kernels.cpp FOLDER   (then set WINDWARD_KERNELS_DIR=FOLDER)")
sys.stdout.write(f"{build(Path(sys.argv[1]) / library_name(), ())}\n")
