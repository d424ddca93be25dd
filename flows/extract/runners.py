"""Where shard tasks run: threads or processes of this machine, or the workers of a Dask or Ray cluster."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any, Literal
from urllib.parse import urlsplit

from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from merloco.flows.extract.shard_queue import JOBS_PER_DEVICE
from merloco.pipelines.errors import DataError, UsageError

Runner = Literal["threads", "processes", "dask", "ray"]
"""The names of Prefect's task runners that an extraction can use."""

PACKAGES = {"dask": ("prefect_dask", "distributed"), "ray": ("prefect_ray", "ray")}
"""Cluster -> the modules that it needs; the extra of the same name installs them."""
ANSWER = 5
"""Seconds that a running cluster has to answer."""


def make_runner(
    name: Runner, devices: Sequence[str], workers: int | None = None, address: str | None = None
) -> tuple[TaskRunner[Any], list[str]]:
    """A task runner, and the device of each of the shard tasks that it runs at the same time.

    Args:
        name: Kind of runner.
        devices: Devices of this machine, or what the workers at `address` call theirs.
        workers: Shards that are encoded at a time; None takes one per device, or one per worker thread of the cluster
            at `address`.
        address: Scheduler of a running Dask or Ray cluster; None starts a temporary one on this machine.

    Raises:
        UsageError: The runner's package is not installed, or an address was given to a runner of this machine.
        DataError: No scheduler answers at the address, or it has no workers.
    """
    for module in PACKAGES.get(name, ()):
        if importlib.util.find_spec(module) is None:
            raise UsageError(
                f"--runner {name} needs the package of the module {module!r}, which is not installed: "
                f"run `pip install 'merloco[{name}]'`"
            )
    if address and name not in PACKAGES:
        raise UsageError(f"--address {address!r}: --runner {name} is of this machine; expected --runner dask or ray")
    number = len(devices)
    if address:
        number = _cluster_workers(name, address)
        if not (workers or number):
            raise _no_workers(name, address)
    number = workers or number
    slots = list(islice(cycle(devices), number))
    if name == "threads":  # jobs of one process take turns on a device, so it can have the next one ready
        return ThreadPoolTaskRunner(max_workers=JOBS_PER_DEVICE * number), slots * JOBS_PER_DEVICE
    if name == "processes":
        return ProcessPoolTaskRunner(max_workers=number), slots
    return (_dask if name == "dask" else _ray)(number, address), slots


def cluster_name(name: Runner, address: str | None) -> str:
    """What an error calls the scheduler of a runner, for example `the Dask scheduler at 'tcp://node1:8786'`."""
    where = f" at {address!r}" if address else " of this command"
    return {"dask": "the Dask scheduler", "ray": "the Ray cluster"}.get(name, "the runner") + where


def _dask(number: int, address: str | None) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    if address:
        return DaskTaskRunner(address=address)
    logging.getLogger("distributed").setLevel(logging.ERROR)  # its comings and goings are not the user's concern
    # A process per task: one that dies costs its shard in hand and not the others'.
    cluster = {"n_workers": number, "threads_per_worker": 1, "processes": True, "dashboard_address": "127.0.0.1:0"}
    return DaskTaskRunner(cluster_kwargs=cluster)


def _ray(number: int, address: str | None) -> TaskRunner[Any]:
    if not address:
        # As its node's address Ray takes one that other machines reach, even where 127.0.0.1 is asked for, and listens
        # on every network. This switch, read when Ray is first imported, keeps all its servers on loopback.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    from prefect_ray import RayTaskRunner

    if address:
        return RayTaskRunner(address=address)
    # `local`: neither a cluster that happens to run here nor the one of RAY_ADDRESS.
    settings = {"num_cpus": number, "include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    return RayTaskRunner(address="local", init_kwargs=settings)


def _cluster_workers(name: Runner, address: str) -> int:
    """How many worker threads a running cluster has now; 0 of Ray, which counts no threads.

    Raises:
        UsageError: It is no address.
        DataError: Nothing answers there.
    """
    return _dask_workers(address) if name == "dask" else _ray_workers(address)


def _dask_workers(address: str) -> int:
    from distributed import Client

    try:
        with Client(address, timeout=f"{ANSWER}s", set_as_default=False) as client:
            return sum(client.nthreads().values())
    except (OSError, ValueError) as error:
        raise DataError(
            f"no Dask scheduler answers at {address!r} ({error}): start one with `dask scheduler`"
        ) from None


def _ray_workers(address: str) -> int:
    """Ray itself tries for minutes to reach a cluster, and then ends the process."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise UsageError(f"--address {address!r}: expected HOST:6379 of a Ray head, or ray://HOST:10001")
    try:
        socket.create_connection((host, port), timeout=ANSWER).close()
    except OSError as error:
        raise DataError(f"no Ray cluster answers at {address!r} ({error}): start one with `ray start --head`") from None
    return 0


def _no_workers(name: Runner, address: str) -> DataError:
    if name == "ray":
        return UsageError("--runner ray --address needs --workers: how many shards the cluster does at a time")
    return DataError(f"the Dask scheduler at {address!r} has no workers: start some with `dask worker {address}`")


@contextmanager
def reachable_api(runner: Runner, address: str | None) -> Iterator[None]:
    """A Prefect API that all workers share: the configured one, or one that lives as long as this command.

    Without it every worker process would start a server of its own.

    Raises:
        UsageError: Workers of other machines were asked for and no API is configured that they could reach.
    """
    if runner == "threads" or PREFECT_API_URL.value():
        yield
    elif address:
        raise UsageError(
            "--address needs a Prefect server that the workers can reach: start one with `prefect server start --host "
            "0.0.0.0` and set PREFECT_API_URL=http://HOST:4200/api"
        )
    else:
        from prefect.server.api.server import SubprocessASGIServer

        server = SubprocessASGIServer()
        server.start()
        os.environ["PREFECT_API_URL"] = server.api_url  # what worker processes and threads without a context see
        try:
            with temporary_settings({PREFECT_API_URL: server.api_url}):
                yield
        finally:
            del os.environ["PREFECT_API_URL"]
            server.stop()
