"""`windward-operator`: the process in the operator's pod. `windward-operator check` is what `helm test` runs, and
`windward-operator release` the second process, which starts what the operator should have started."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Sequence

import kopf
import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from windward import __version__
from windward.cluster.combined import CombinedCluster
from windward.cluster.kube_api import Api, connect
from windward.cluster.kubernetes import KubernetesCluster
from windward.cluster.managed import ManagedWorkloads
from windward.cluster.managed_reader import ManagedReader, Watch
from windward.cluster.port import Cluster
from windward.grid.ahead import Ahead
from windward.grid.cache import Grid
from windward.ledger.opening import open_ledger
from windward.manifests.pod import RuntimeImage
from windward.service.clock import SystemClock
from windward.service.controller import Controller
from windward.service.handlers import configure, register
from windward.service.health import serve
from windward.service.local import PAST
from windward.service.loop import Loop
from windward.service.metrics import Metrics
from windward.service.providers import provider_of
from windward.service.release import release_overdue
from windward.service.settings import Settings
from windward.service.watch_monitor import WatchMonitor

log = logging.getLogger("windward.operator")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the operator until SIGTERM."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["check"]:
        from windward.service.check import check

        return check()
    if arguments == ["release"]:
        settings = Settings()
        logs(settings.log_level)
        return release_overdue(settings)
    if arguments in (["--version"], ["version"]):
        sys.stdout.write(f"windward-operator {__version__}\n")
        return 0
    if arguments:
        sys.stderr.write(
            f"error: unknown argument {arguments[0]}\nfix: windward-operator [check | release | version]\n"
        )
        return 2
    settings = Settings()
    logs(settings.log_level)
    return run(settings)


def run(settings: Settings) -> int:
    """Wires all parts; kopf's event loop holds the process until SIGTERM, or until its watch fails for good."""
    clock, watch_monitor, metrics = SystemClock(), WatchMonitor(), Metrics()
    runtime = RuntimeImage(settings.worker_image, settings.worker_image_pull_policy, settings.storage_claim)
    api = Api(connect())
    own = KubernetesCluster(api, clock, runtime, settings.namespaces)
    cluster: Cluster = own
    watches: list[Watch] = [own.watch_pods]
    if settings.managed:
        reader = ManagedReader(api, clock, settings.namespaces, settings.managed_defaults)
        cluster = CombinedCluster(own, ManagedWorkloads(api, clock, reader))
        watches += reader.watches()
    ledger = open_ledger(settings.database_url.get_secret_value())
    provider = provider_of(settings.provider, clock, settings.trace_file)
    local = settings.provider in ("trace", "static")  # answers from memory: an account has its hours at once
    grid = Grid(provider, ledger, past=PAST, ahead=Ahead(provider), background=not local)
    controller = Controller(cluster, grid, ledger, clock, observes=settings.observes)
    loop = Loop(controller, clock, settings.resync_seconds, watch_monitor, metrics)

    server = serve(settings.http_port, loop.dead, loop.unready, metrics.registry, loop.good)
    ticks = BackgroundScheduler(timezone="UTC")
    ticks.add_job(
        loop.refresh, "interval", seconds=settings.forecast_seconds, jitter=10, max_instances=1, coalesce=True
    )
    ticks.add_job(loop.wake, "interval", seconds=settings.resync_seconds, max_instances=1, coalesce=True)
    ticks.start()
    threading.Thread(target=loop.run, name="controller", daemon=True).start()
    for watch in watches:
        threading.Thread(target=watch, args=(loop.stop, loop.wake), name="watch", daemon=True).start()
    mode = "observes" if settings.observes else "acts"
    where = settings.namespaces or "all"
    log.info("windward %s %s: provider %s, namespaces %s", __version__, mode, settings.provider, where)
    try:
        asyncio.run(_watch(settings, loop, watch_monitor))
    finally:
        loop.stop.set()
        loop.wake()
        ticks.shutdown(wait=False)
        server.shutdown()
        grid.close()
        ledger.close()
    return 0


async def _watch(settings: Settings, loop: Loop, watch_monitor: WatchMonitor) -> None:
    registry = kopf.OperatorRegistry()
    register(registry, loop, watch_monitor)
    options = kopf.OperatorSettings()
    configure(options)
    everywhere = not settings.namespaces
    await kopf.operator(
        registry=registry,
        settings=options,
        standalone=True,
        clusterwide=everywhere,
        namespaces=settings.namespaces,
    )


def logs(level: str) -> None:
    """JSON lines on stderr; requests and their headers are never logged."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Some log URLs, which may hold keys.
    for noisy in ("urllib3", "kopf", "apscheduler", "httpx", "httpcore", "alembic"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


if __name__ == "__main__":
    sys.exit(main())
