"""`python tests/cluster/build.py`: builds the test cluster's binaries ahead of pytest and prints where they are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.kube.build import Unavailable, binaries

if __name__ == "__main__":
    try:
        print(binaries())
    except Unavailable as why:
        sys.exit(f"test cluster: {why}")
