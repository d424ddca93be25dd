"""What a Prefect server knows of flow runs: whether they failed, and their names, tags, log lines and tables."""

import json
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings

from merloco.features.shards.locks import shard_lock
from merloco.features.store import FeatureStore
from merloco.flows.experiments.flow import experiment_flow
from merloco.flows.extract.flow import extract_store_flow, run_extract_flow
from merloco.flows.extract.jobs import extract_jobs
from merloco.flows.extract.shard_queue import ShardQueue
from merloco.flows.finetune.flow import finetune_encoder_flow, finetune_flow
from merloco.flows.finetune.plan import FinetuneJob
from merloco.flows.ingest.flow import ingest_flow
from merloco.flows.tasks.attempts import TasksFailedError, attempt_all
from merloco.flows.transcribe.flow import transcribe_flow
from merloco.flows.transcribe.service import TranscribeJob
from merloco.models.errors import ModelError
from merloco.models.finetune.run import FinetuneConfig
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError, UsageError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.command_line import meld_root, merloco, the_sentence
from tests.helpers.planted_store import planted_catalog, planted_store
from tests.helpers.prefect_server import ask, wait_for
from tests.helpers.store_files import CATALOG, make_store, meld_samples


@pytest.fixture(autouse=True)
def server(api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PREFECT_API_URL", api)  # where the commands look
    with temporary_settings({PREFECT_API_URL: api}):
        yield


@pytest.fixture
def new_run(api: str) -> Callable[[], dict[str, Any]]:
    """The one flow run that the server did not know when the test began, with what belongs to it."""
    before = {run["id"] for run in ask(api, "flow_runs")}

    def look() -> dict[str, Any]:
        (run,) = [run for run in ask(api, "flow_runs") if run["id"] not in before]
        own = {"flow_run_id": {"any_": [run["id"]]}}

        def tasks() -> list[dict]:
            found = ask(api, "task_runs", flow_runs={"id": {"any_": [run["id"]]}})
            return found if all(task["state_type"] in ("COMPLETED", "FAILED") for task in found) else []

        def logs() -> list[str]:  # the server learns of them a little later than of the end
            found = ask(api, "logs", logs=own)
            end = [log for log in found if log["name"] == "prefect.flow_runs" and "Finished in state" in log["message"]]
            return [log["message"] for log in found] if end else []

        artifacts = ask(api, "artifacts", artifacts=own)
        return {
            "state": run["state_type"],
            "name": run["name"],
            "tags": run["tags"],
            "tasks": {task["name"]: (task["state_type"], sorted(task["tags"])) for task in wait_for(tasks)},
            "logs": "\n".join(wait_for(logs)),
            "tables": {a["key"]: json.loads(a["data"]) for a in artifacts if a["type"] == "table"},
        }

    return look


def test_an_ingest_fails_when_one_corpus_cannot_be_read_and_has_read_the_others(
    tmp_path: Path, new_run: Callable[[], dict[str, Any]]
) -> None:
    roots = ["--root", f"afew={tmp_path / 'nowhere'}", "--root", f"meld={meld_root(tmp_path / 'meld')}"]
    command = [
        sys.executable,
        "-m",
        "merloco.flows.cli.app",
        "ingest",
        "afew",
        "meld",
        *roots,
        "--store",
        str(tmp_path / "store"),
    ]
    done = subprocess.run(command, cwd=CATALOG.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "rows found = left out + samples" in done.stdout
    assert done.stderr == the_sentence(done.stderr) + "\n"  # no traceback, which the server has
    run = new_run()
    assert (run["state"], run["name"]) == ("FAILED", "ingest afew, meld")
    assert run["tags"] == ["corpus:afew", "corpus:meld"]
    assert run["tasks"] == {
        "ingest-afew": ("FAILED", ["corpus:afew"]),
        "ingest-meld": ("COMPLETED", ["corpus:meld"]),
    }
    assert "is not a folder; expected the unpacked release" in run["logs"] and "3 rows found, 3 samples" in run["logs"]
    assert "Traceback" in run["logs"]
    assert [(row["corpus"], row["usable"]) for row in run["tables"]["ingest-audit"]] == [("meld", 3)]


def test_an_extraction_tries_every_shard_and_fails_when_one_has_failed(
    tmp_path: Path, new_run: Callable[[], dict[str, Any]]
) -> None:
    store = make_store(tmp_path, n=600, extracted=False)
    jobs = extract_jobs(store, str(CATALOG), store.plan([store.view("minilm")]), {}, "cpu", retry_failed=False)
    write_parquet(samples_path(tmp_path, "meld"), to_table(meld_samples(300)))  # a new ingest has fewer samples
    queue = ShardQueue(store, jobs[::-1], 0.2)
    with pytest.raises(DataError, match=r"meld-00002.* was ingested again meanwhile"):
        run_extract_flow(queue, "light", ["cpu"])
    run = new_run()
    assert (run["state"], run["name"]) == ("FAILED", "extract light meld")
    assert run["tags"] == ["corpus:meld", "features:light"]
    assert {name: state for name, (state, _) in run["tasks"].items()} == {
        "extract-minilm-meld-00000": "COMPLETED",
        "extract-minilm-meld-00001": "COMPLETED",
        "extract-minilm-meld-00002": "FAILED",
    }
    assert {tuple(tags) for _, tags in run["tasks"].values()} == {("corpus:meld", "features:light")}
    assert "meld-00000: 256 rows, no_text 25, ok 231" in run["logs"]
    assert run["tables"]["extract-coverage"][0]["ok"] == 270


def test_training_is_called_what_the_command_is_called_and_keeps_its_scores(
    capsys: pytest.CaptureFixture, tmp_path: Path, new_run: Callable[[], dict[str, Any]]
) -> None:
    catalog = planted_catalog(tmp_path)
    store = planted_store(tmp_path / "store", catalog, n=120)
    arguments = ["--corpora", "meld,afew", "--seeds", "0,1", "--store", str(store.root), "--catalog", str(catalog)]
    assert merloco(capsys, "loco", *arguments)[0] == 0
    run = new_run()
    assert (run["state"], run["name"]) == ("COMPLETED", "loco light 2 seeds")
    assert run["tags"] == ["corpus:afew", "corpus:meld", "features:light"]
    assert run["tasks"] == {"train-loco": ("COMPLETED", run["tags"])}
    assert run["logs"].count(": trained, validation UAR") == 4
    table = run["tables"]["scores-loco"]
    assert [row["tested on"] for row in table] == ["meld", "afew", "average of 2 corpora"]
    assert all("±" in row["UAR"] and row["features"] == "light" for row in table[:2])


def test_a_fine_tuning_that_fails_is_a_failed_flow(tmp_path: Path, new_run: Callable[[], dict[str, Any]]) -> None:
    make_store(tmp_path, n=20, extracted=False)
    settings = FinetuneConfig(learning_rate=1e-5)
    job = FinetuneJob(
        str(CATALOG), str(tmp_path), "text", "meld", str(tmp_path / "no_model"), "light", "mine", "", settings
    )
    with pytest.raises((DataError, ModelError), match="no_model"):
        finetune_flow(job)
    run = new_run()
    assert (run["state"], run["name"]) == ("FAILED", "finetune text meld")
    assert run["tasks"] == {"finetune-text-meld": ("FAILED", ["corpus:meld", "features:light"])}
    assert "no_model" in run["logs"]


def test_a_transcription_that_fails_for_one_corpus_goes_on_with_the_next(
    tmp_path: Path, new_run: Callable[[], dict[str, Any]]
) -> None:
    make_store(tmp_path, n=20, extracted=False)  # nothing in it is to be heard
    write_parquet(samples_path(tmp_path, "afew"), to_table(meld_samples(20, "afew")))
    jobs = [TranscribeJob(str(CATALOG), str(tmp_path), name, str(tmp_path), "no_model") for name in ("afew", "meld")]
    with (
        shard_lock([tmp_path / "transcripts"], "afew"),
        pytest.raises(TasksFailedError, match="'afew' is being") as failed,
    ):
        transcribe_flow(jobs)
    assert failed.value.outcomes["meld"] == {"transcribed": 0, "no_speech": 0, "failed": 0}
    run = new_run()
    assert (run["state"], run["name"]) == ("FAILED", "transcribe afew, meld")
    assert {name: state for name, (state, _) in run["tasks"].items()} == {
        "transcribe-afew": "FAILED",
        "transcribe-meld": "COMPLETED",
    }
    assert [row["corpus"] for row in run["tables"]["transcripts"]] == ["meld"]


def test_a_deployment_with_nothing_to_do_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in load_catalog(CATALOG).corpora:
        monkeypatch.delenv(f"{name.upper()}_ROOT", raising=False)
    with pytest.raises(UsageError, match=r"no corpus to ingest: .*MELD_ROOT"):
        ingest_flow.fn(str(CATALOG), str(tmp_path), {})
    FeatureStore.open(tmp_path, load_catalog(CATALOG), create=True)
    with pytest.raises(DataError, match="holds no samples"):
        extract_store_flow.fn(str(CATALOG), str(tmp_path))


REFUSED = [
    (ingest_flow, {"roots": {"melt": "."}}, "'melt' is not one of"),
    (extract_store_flow, {"features": "lihgt"}, "'lihgt' is not one of ['light', 'published']"),
    (extract_store_flow, {"corpora": ["melt"]}, "'melt' is not one of"),
    (experiment_flow, {"name": "lcoo"}, "'lcoo' is not one of"),
    (finetune_encoder_flow, {"modality": "text", "corpus": "melt"}, "'melt' is not one of"),
    (finetune_encoder_flow, {"modality": "text", "corpus": "meld", "features": "lihgt"}, "'lihgt' is not one of"),
]


@pytest.mark.parametrize(("flow", "parameters", "sentence"), REFUSED)
def test_a_deployment_refuses_an_unknown_name_before_a_run_is_made(
    api: str, flow: Flow, parameters: dict, sentence: str
) -> None:
    before = len(ask(api, "flow_runs"))
    flow.to_deployment("names").apply()
    with pytest.raises(PrefectHTTPStatusError, match="409") as refused:
        run_deployment(f"{flow.name}/names", parameters={"catalog": "c", "store": "s", **parameters}, timeout=0)
    assert sentence in refused.value.response.json()["detail"]
    assert len(ask(api, "flow_runs")) == before


def test_errors_of_several_tasks_are_one_that_travels_between_processes_and_keeps_what_went_well() -> None:
    def fail(error: Exception) -> int:
        raise error

    tasks = {"a": lambda: fail(DataError("no a")), "b": lambda: 2, "c": lambda: fail(UsageError("no c"))}
    with pytest.raises(TasksFailedError, match=r"^no a; no c$") as failed:
        attempt_all(tasks)
    travelled = pickle.loads(pickle.dumps(failed.value))
    assert (travelled.outcomes["b"], travelled.exit_code, str(travelled)) == (2, 2, "no a; no c")
    with pytest.raises(KeyError):  # a fault of the code is not hidden in a sentence
        attempt_all({**tasks, "d": lambda: fail(KeyError("d"))})


def test_a_process_that_has_run_a_flow_can_fork_workers(tmp_path: Path) -> None:
    with pytest.raises(TasksFailedError):
        ingest_flow(str(CATALOG), str(tmp_path / "store"), {"meld": str(tmp_path / "nowhere")})
    child = multiprocessing.get_context("fork").Process(target=print)
    child.start()
    child.join()
    assert child.exitcode == 0
