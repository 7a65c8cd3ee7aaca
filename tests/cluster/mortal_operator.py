"""An operator that dies, as by SIGKILL, right before or after a write of its own, again and again.

`python mortal_operator.py KUBECONFIG LEDGER_URL KILLS SEED COUNT_FILE`: each life is a forked process with the
operator's own controller, cluster adapter, pod watch and ledger; it ends at a random write to the API server or to the
ledger. After KILLS deaths the last one lives until SIGTERM. COUNT_FILE holds the number of deaths.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from windward.cluster.kube_api import Api, connect
from windward.cluster.kubernetes import KubernetesCluster
from windward.cluster.port import ClusterError
from windward.grid.cache import Grid
from windward.ledger import open_ledger
from windward.ledger.sql import SqlLedger
from windward.manifests.pod import RuntimeImage
from windward.service.clock import SystemClock
from windward.service.controller import Controller
from windward.service.providers import provider_of

FEWEST, MOST = 1, 24  # writes of one life
STATIC = {"WINDWARD_STATIC_INTENSITY": "GB=200,DE=200", "WINDWARD_STATIC_KIND": "Average/LifeCycle/Consumption"}


def mortal(real: Any, is_write: Any, deadline: Any) -> Any:
    """`real`, after or before whose `deadline()`-th write the process is gone."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if not is_write(*args):
            return real(*args, **kwargs)
        when = deadline()
        if when == "before":
            os._exit(137)
        out = real(*args, **kwargs)
        if when == "after":
            os._exit(137)
        return out

    return call


def live(kubeconfig: str, url: str, dice: random.Random | None) -> None:
    """One life; without dice it does not end."""
    if dice is not None:
        left, last, lock = dice.randint(FEWEST, MOST), dice.choice(["before", "after"]), threading.Lock()

        def deadline() -> str:
            nonlocal left
            with lock:
                left -= 1
                return last if left <= 0 else ""

        Api._call = mortal(Api._call, lambda _self, method, *_: method != "GET", deadline)  # type: ignore[method-assign]
        for name in ("record_energy", "record_decision", "record_receipt"):
            setattr(SqlLedger, name, mortal(getattr(SqlLedger, name), lambda *_: True, deadline))
    clock = SystemClock()
    cluster = KubernetesCluster(Api(connect(kubeconfig)), clock, RuntimeImage("none"))
    ledger = open_ledger(url)
    grid = Grid(provider_of("static", clock, environment=STATIC), ledger)
    controller = Controller(cluster, grid, ledger, clock)
    bell = threading.Event()
    threading.Thread(target=cluster.watch_pods, args=(threading.Event(), bell.set), daemon=True).start()
    while True:
        bell.clear()
        try:
            grid.refresh(["GB", "DE"], clock.now())
            cycle = controller.cycle()
            for key, error in cycle.errors.items():
                sys.stderr.write(f"{key}: {error}\n")
        except ClusterError as e:
            sys.stderr.write(f"{e}\n")
        bell.wait(1.0)
        time.sleep(0.1)


def main() -> None:
    kubeconfig, url, kills, seed, count_file = sys.argv[1:]
    dice = random.Random(int(seed))
    open_ledger(url).close()
    for n in range(int(kills) + 1):
        Path(count_file).write_text(str(n))
        mine = random.Random(dice.random()) if n < int(kills) else None
        child = os.fork()
        if child == 0:
            live(kubeconfig, url, mine)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != 137:
            sys.exit(f"life {n} ended with {os.waitstatus_to_exitcode(status)}, and nobody killed it")


if __name__ == "__main__":
    main()
