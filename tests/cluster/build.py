"""`python tests/cluster/build.py [engines]`: builds the test cluster's binaries ahead of pytest, or those of the job
engines, and prints where they are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.kube import Unavailable, binaries, engine_binaries

if __name__ == "__main__":
    try:
        print(engine_binaries() if sys.argv[1:] == ["engines"] else binaries())
    except Unavailable as why:
        sys.exit(f"test cluster: {why}")
