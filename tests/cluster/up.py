"""`python tests/cluster/up.py north central`: a cluster with these real nodes, to try things by hand, until Ctrl-C.

Prints the KUBECONFIG and the folder of kubectl and helm. `--storage NAMESPACE` makes the namespace and, in it, the
claim `windward-storage` that the nodes share.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.images import built_images, chart_images
from cluster.kube import Cluster, RunningEngines, Unavailable, binaries, engine_binaries


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("nodes", nargs="*", help="names of real nodes, each a region of its own")
    words.add_argument("--fake", action="append", default=[], metavar="REGION", help="adds a fake node with eight GPUs")
    words.add_argument("--engines", action="store_true", help="adds JobSet, Kubeflow Trainer and Kueue")
    words.add_argument("--storage", metavar="NAMESPACE")
    asked = words.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that `kill` tears down as Ctrl-C does
    with Cluster(binaries(), [*chart_images(), *built_images()]) as cluster:
        for name in asked.nodes:
            cluster.node(name)
        for region in asked.fake:
            cluster.fake_nodes(region)
        if asked.engines:
            RunningEngines(cluster, engine_binaries())
        if asked.storage:
            cluster.kube.namespace(asked.storage)
            cluster.storage(asked.storage)
        print(f"export KUBECONFIG={cluster.kubeconfig} PATH={cluster.binaries}:$PATH", flush=True)
        while True:
            cluster.parts.check()
            time.sleep(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
    except Unavailable as why:
        sys.exit(f"test cluster: {why}")
