"""Shard tasks on threads, processes and Dask workers, with a Prefect server on loopback: the store is the same."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, temporary_settings

from merloco.features.maintenance.check import check_store
from merloco.features.shards.commit import Commit
from merloco.features.store import FeatureStore
from merloco.flows.arguments import device_list
from merloco.flows.extract.jobs import ShardJob, extract_jobs
from merloco.flows.extract.runners import cluster_name, make_runner, reachable_api
from merloco.flows.extract.shard_queue import ShardQueue
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError, UsageError
from tests.helpers.kill_server import KillServer
from tests.helpers.prefect_server import ask, wait_for
from tests.helpers.store_contents import contents, write_release
from tests.helpers.store_files import CATALOG, make_store

needs_dask = pytest.mark.skipif(find_spec("prefect_dask") is None, reason="prefect-dask is not installed")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), 200)


def stages(store: Path, release: Path) -> list[list[str]]:
    """The commands that make a store of texts from nothing, and train on it."""
    commands = [
        f"ingest meld --root meld={release} --no-flow",
        "extract --modalities text --no-flow",
        "train --train meld --test meld --modalities text --epochs 2 --no-flow",
    ]
    return [[*command.split(), "--store", str(store), "--catalog", str(CATALOG)] for command in commands]


@needs_dask
def test_a_dask_cluster_and_a_server_make_the_store_that_one_process_makes_though_a_worker_is_killed(
    api: str, kill_server: KillServer, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    for command in stages(tmp_path / "local", release):
        assert kill_server(*command)["code"] == 0
    ingest, extract, train = ([w for w in c if w != "--no-flow"] for c in stages(tmp_path / "dask", release))
    killed: list[int] = []
    before = {run["id"] for run in ask(api, "flow_runs")}
    monkeypatch.setenv("PREFECT_API_URL", api)  # the workers'
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        pids = {name: worker.process.pid for name, worker in ((w.worker_address, w) for w in cluster.workers.values())}

        def kill_a_worker() -> None:  # once a shard is in its hands
            with cluster.get_client() as client:
                busy = wait_for(lambda: [address for address, keys in client.processing().items() if keys])
                wait_for(lambda: list((tmp_path / "dask").rglob(".claim-*")))
                killed.append(pids[busy[0]])
                os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_a_worker)
        killer.start()
        here = {"PREFECT_API_URL": api}
        assert kill_server(*ingest, environment=here)["code"] == 0
        done = kill_server(*extract, "--runner", "dask", "--address", cluster.scheduler_address, environment=here)
        killer.join()
    assert done["code"] == 0, done["output"]
    assert kill_server(*train, "--flow", environment=here)["code"] == 0
    assert len(killed) == 1 and "Extracted 2 of 2 shards, 280 samples" in done["output"]
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")
    assert check_store(FeatureStore.open(tmp_path / "dask", load_catalog(CATALOG))) == []

    runs = [run for run in ask(api, "flow_runs") if run["id"] not in before]
    assert [run["state_type"] for run in runs] == ["COMPLETED"] * 3
    assert [run["parameters"]["queue"] for run in runs if "queue" in run["parameters"]] == ["<ShardQueue>"]
    names = {"ingest-meld", "extract-minilm-meld-00000", "extract-minilm-meld-00001"}
    assert wait_for(lambda: completed(api) >= names), ask(api, "task_runs")
    artifacts = {
        artifact["key"]: artifact["data"] for artifact in ask(api, "artifacts") if artifact["flow_run_id"] not in before
    }
    assert artifacts["extract-progress"] == 100.0
    assert json.loads(artifacts["extract-coverage"])[0]["coverage"] == "100.0%"


def completed(api: str) -> set[str]:
    """Names of the task runs that the server has seen end well; it learns of them a little later."""
    return {run["name"] for run in ask(api, "task_runs") if run["state_type"] == "COMPLETED"}


def test_processes_make_the_store_that_one_process_makes(api: str, kill_server: KillServer, tmp_path: Path) -> None:
    for name in ("local", "processes"):
        make_store(tmp_path / name, n=300, extracted=False)
    options = ["--modalities", "text", "--root", "meld=.", "--catalog", str(CATALOG), "--store"]
    assert kill_server("extract", "--no-flow", *options, str(tmp_path / "local"))["code"] == 0
    command = [sys.executable, "-m", "merloco.flows.cli.app", "extract", *options, str(tmp_path / "processes")]
    done = subprocess.run(
        [*command, "--runner", "processes", "--workers", "2"],
        cwd=CATALOG.parent,
        env={**os.environ, "PREFECT_API_URL": api},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "Extracted 2 of 2 shards" in done.stdout, done.stderr
    assert contents(tmp_path / "processes") == contents(tmp_path / "local")


def test_a_device_has_one_shard_at_a_time_and_every_device_has_some(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=2000, extracted=False)
    jobs = extract_jobs(store, str(CATALOG), store.plan([store.view("minilm")]), {"meld": "."}, "cpu", False)
    busy: Counter[str] = Counter()
    most: Counter[str] = Counter()
    seen: list[ShardJob] = []

    def work(job: ShardJob) -> list[Commit]:
        busy[job.device] += 1
        most[job.device] = max(most[job.device], busy[job.device])
        seen.append(job)
        time.sleep(0.02)
        busy[job.device] -= 1
        return []

    with ThreadPoolExecutor(8) as pool:

        def submit(job: ShardJob) -> Future:
            return pool.submit(work, job)

        ShardQueue(store, jobs, 0.2).run(submit, ["cuda:0", "cuda:1", "cuda:1"])
    assert sorted(job.shard for job in seen) == [job.shard for job in jobs] and len(jobs) == 8
    assert most == {"cuda:0": 1, "cuda:1": 2}


def test_slots_go_round_the_devices() -> None:
    assert make_runner("threads", ["cuda:0", "cuda:1"])[1] == ["cuda:0", "cuda:1"] * 2  # one is read ahead
    assert make_runner("processes", ["cuda:0", "cuda:1"], workers=3)[1] == ["cuda:0", "cuda:1", "cuda:0"]


def test_wrong_runners_are_one_sentence() -> None:
    with pytest.raises(UsageError, match="--runner threads is of this machine"):
        make_runner("threads", ["cpu"], address="tcp://127.0.0.1:8786")
    with pytest.raises(UsageError, match="this machine has no 'tpu'"):
        device_list("tpu")


@pytest.mark.parametrize(("runner", "module"), [("dask", "prefect_dask"), ("dask", "distributed"), ("ray", "ray")])
def test_a_runner_that_is_not_installed_says_how_to_install_it(
    runner: Literal["dask", "ray"], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"--runner {runner} needs the package .*`pip install 'merloco\[{runner}\]'`"):
        make_runner(runner, ["cpu"])


LISTENING = """
import json
import psutil
from merloco.flows.extract.runners import make_runner

with make_runner("ray", ["cpu"])[0]:
    me = psutil.Process()
    everyone = [me, *me.children(recursive=True)]
    sockets = [socket for process in everyone for socket in process.net_connections() if socket.status == "LISTEN"]
print(json.dumps([socket.laddr.ip for socket in sockets]))
"""


@pytest.mark.slow
def test_a_temporary_ray_cluster_listens_on_loopback_alone() -> None:
    pytest.importorskip("ray")
    pytest.importorskip("prefect_ray")
    environment = {**os.environ, "RAY_ADDRESS": "192.0.2.1:6379"}  # another cluster, which was not asked for
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    addresses = json.loads(done.stdout.splitlines()[-1])
    assert addresses and all(ip_address(a.removeprefix("::ffff:")).is_loopback for a in addresses)


def test_a_ray_cluster_of_ones_own_is_used_as_it_is_if_it_answers() -> None:
    pytest.importorskip("ray")
    pytest.importorskip("prefect_ray")
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"ray://127.0.0.1:{head.getsockname()[1]}"
        runner, slots = make_runner("ray", ["cuda"], workers=3, address=address)
        assert (runner.address, slots) == (address, ["cuda"] * 3)
        with pytest.raises(UsageError, match="--runner ray --address needs --workers"):
            make_runner("ray", ["cuda"], address=address)
    for gone in (address, address.removeprefix("ray://")):
        with pytest.raises(DataError, match=f"no Ray cluster answers at '{gone}'"):
            make_runner("ray", ["cuda"], workers=3, address=gone)
    for wrong in ("auto", "local", "node1", "node1:x", ":6379", "ray://node1"):
        with pytest.raises(UsageError, match=f"--address '{wrong}': expected HOST:6379 of a Ray head"):
            make_runner("ray", ["cuda"], workers=3, address=wrong)


@needs_dask
@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "127.0.0.1:9", "nonsense", "ftp://127.0.0.1:9"])
def test_a_scheduler_that_does_not_answer_is_one_sentence(address: str, workers: int | None) -> None:
    with pytest.raises(DataError, match=f"no Dask scheduler answers at '{address}'"):
        make_runner("dask", ["cpu"], workers, address)


@needs_dask
@pytest.mark.parametrize("when", ["a shard is handed over", "shards are in hand"])
def test_a_cluster_that_is_gone_is_one_sentence_and_ends_the_run(tmp_path: Path, when: str) -> None:
    from distributed.client import ClosedClientError, FutureCancelledError

    store = make_store(tmp_path, n=1000, extracted=False)
    jobs = extract_jobs(store, str(CATALOG), store.plan([store.view("minilm")]), {"meld": "."}, "cpu", False)
    handed: list[ShardJob] = []

    def submit(job: ShardJob) -> Future:
        handed.append(job)
        if when == "a shard is handed over":
            raise ClosedClientError("Client is closed. Can't send update-graph message.")
        lost: Future = Future()
        lost.set_exception(FutureCancelledError(job.shard, "scheduler-connection-lost"))
        return lost

    name = cluster_name("dask", "tcp://node1:8786")
    with pytest.raises(DataError, match=r"^the Dask scheduler at 'tcp://node1:8786' was lost: .* command again"):
        ShardQueue(store, jobs, 0.2).run(submit, ["cpu", "cpu"], cluster=name)
    assert len(jobs) == 4 and len(handed) == (1 if when == "a shard is handed over" else 2)


@needs_dask
def test_a_scheduler_that_is_killed_is_one_sentence_and_what_was_done_stays(
    api: str, kill_server: KillServer, release: Path, tmp_path: Path
) -> None:
    ingest, extract, _ = stages(tmp_path / "store", release)
    assert kill_server(*ingest)["code"] == 0
    found, environment = tmp_path / "scheduler.json", {**os.environ, "PREFECT_API_URL": api}
    common = ["--host", "127.0.0.1", "--scheduler-file", str(found), "--no-dashboard"]
    scheduler = start_dask("scheduler", *common, "--port", "0", environment=environment)
    wait_for(found.is_file)
    worker = start_dask("worker", *common, "--nthreads", "1", "--no-nanny", environment=environment)

    def kill_the_scheduler() -> None:  # once a shard is in a worker's hands
        wait_for(lambda: list((tmp_path / "store").rglob(".claim-*")), 120)
        scheduler.kill()

    killer = threading.Thread(target=kill_the_scheduler)
    killer.start()
    try:
        address = wait_for(lambda: json.loads(found.read_text())["address"])
        command = [word for word in extract if word != "--no-flow"] + ["--runner", "dask", "--workers", "1"]
        done = kill_server(*command, "--address", address, environment={"PREFECT_API_URL": api})
    finally:
        killer.join()
        for process in (worker, scheduler):
            process.kill()
            process.wait()
    assert done["code"] == 1 and "Traceback" not in done["output"], done["output"]
    (sentence,) = [line for line in done["output"].splitlines() if "error: " in line]
    assert f"the Dask scheduler at {address!r} was lost" in sentence and "run the same command again" in sentence
    assert kill_server(*extract)["code"] == 0
    assert check_store(FeatureStore.open(tmp_path / "store", load_catalog(CATALOG))) == []


def start_dask(role: str, *options: str, environment: dict[str, str]) -> subprocess.Popen:
    command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *options]
    return subprocess.Popen(
        command, cwd=CATALOG.parent, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def test_workers_elsewhere_need_a_server_that_they_can_reach() -> None:
    elsewhere = reachable_api("dask", "tcp://elsewhere:8786")
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(UsageError, match="PREFECT_API_URL"), elsewhere:
        pass


DEPLOYMENTS = yaml.safe_load((CATALOG.parent / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_deployments_name_flows_that_take_their_parameters(deployment: dict) -> None:
    flow = load_flow_from_entrypoint(str(CATALOG.parent / deployment["entrypoint"]))
    flow.validate_parameters(deployment["parameters"])
    with pytest.raises(Exception, match="corpra"):
        flow.validate_parameters({**deployment["parameters"], "corpra": ["meld"]})
    assert deployment["schedules"] == [] and deployment["enforce_parameter_schema"] is True


def test_a_deployed_extraction_refuses_parameters_out_of_range() -> None:
    flow = load_flow_from_entrypoint(str(CATALOG.parent / "flows/extract/flow.py:extract_store_flow"))
    for wrong in ({"max_failures": 2}, {"workers": 0}, {"runner": "slurm"}):
        with pytest.raises(Exception, match=next(iter(wrong))):
            flow.validate_parameters({"catalog": "catalog.yaml", "store": "store", **wrong})


WRONG_NAMES = {
    "flows/ingest/flow.py:ingest_flow": [({"roots": {"melt": "."}}, "unknown corpus 'melt': did you mean 'meld'")],
    "flows/extract/flow.py:extract_store_flow": [
        ({"features": "lihgt"}, "unknown feature set 'lihgt': did you mean 'light'"),
        ({"corpora": ["melt"]}, "unknown corpus 'melt': did you mean 'meld'"),
        ({"modalities": ["smell"]}, "no modality or view 'smell'"),
    ],
    "flows/experiments/flow.py:experiment_flow": [({"name": "lcoo"}, "unknown experiment 'lcoo': did you mean 'loco'")],
    "flows/finetune/flow.py:finetune_encoder_flow": [
        ({"modality": "text", "corpus": "melt"}, "unknown corpus 'melt': did you mean 'meld'"),
        ({"modality": "text", "corpus": "meld", "features": "lihgt"}, "unknown feature set 'lihgt'"),
    ],
}


def test_every_deployment_is_tried_with_wrong_names() -> None:
    assert {deployment["entrypoint"] for deployment in DEPLOYMENTS} == WRONG_NAMES.keys()


@pytest.mark.parametrize(
    ("entrypoint", "parameters", "sentence"),
    [(entrypoint, *case) for entrypoint, cases in WRONG_NAMES.items() for case in cases],
)
def test_a_deployment_refuses_an_unknown_name_before_any_task(
    tmp_path: Path, entrypoint: str, parameters: dict, sentence: str
) -> None:
    make_store(tmp_path, n=20, extracted=False)
    before = sorted(tmp_path.rglob("*"))
    flow = load_flow_from_entrypoint(str(CATALOG.parent / entrypoint))
    with pytest.raises(UsageError, match=re.escape(sentence)):
        flow.fn(str(CATALOG), str(tmp_path), **parameters)
    assert sorted(tmp_path.rglob("*")) == before
