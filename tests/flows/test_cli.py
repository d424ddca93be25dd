"""The command line as a user meets it: exit codes, one clear sentence for a mistake, never a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers.command_line import HEADER, meld_root, merloco, the_sentence
from tests.helpers.store_files import CATALOG, make_store

COMMANDS = ["demo", "ingest", "plan", "extract", "train", "loco", "sql", "stats", "check", "gc", "delete", "export"]


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)
    for name in ("IEMOCAP", "MELD", "MOSEI", "AFEW"):
        monkeypatch.delenv(f"{name}_ROOT", raising=False)


def test_help_lists_the_commands(capsys: pytest.CaptureFixture) -> None:
    code, out, _ = merloco(capsys, "--help")
    assert code == 0
    for command in COMMANDS:
        assert f" {command} " in out


@pytest.mark.parametrize(
    "command", ["demo", "ingest", "plan", "extract", "train", "loco", "sql", "stats", "check", "gc", "delete", "export"]
)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture) -> None:
    code, out, _ = merloco(capsys, command, "--help")
    assert code == 0 and "Example: merloco" in " ".join(out.split())


def test_the_console_script_runs() -> None:
    script = Path(sys.executable).parent / "merloco"
    done = subprocess.run([script, "ingest", "mled"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert the_sentence(done.stderr).startswith("error: unknown corpus 'mled': did you mean 'meld'?")


def test_unknown_corpus(capsys: pytest.CaptureFixture) -> None:
    code, _, err = merloco(capsys, "ingest", "mled", "--no-flow")
    assert code == 2 and "did you mean 'meld'" in the_sentence(err)


def test_missing_root(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    code, _, err = merloco(
        capsys, "ingest", "meld", "--root", f"meld={tmp_path / 'none'}", "--store", store, "--no-flow"
    )
    assert code == 1 and "is not a folder" in the_sentence(err)
    code, _, err = merloco(capsys, "ingest", "meld", "--store", store, "--no-flow")
    assert code == 1 and "set MELD_ROOT" in the_sentence(err)


def test_broken_yaml(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("corpora: {meld: [\n")
    code, _, err = merloco(capsys, "plan", "--catalog", str(tmp_path / "c.yaml"))
    assert code == 1 and "broken YAML" in the_sentence(err) and "c.yaml:2" in err


def test_misspelt_catalog_key(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    raw = yaml.safe_load(CATALOG.read_text())
    raw["feature_sets"]["light"]["vidoe"] = "face_hog"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw))
    code, _, err = merloco(capsys, "plan", "--catalog", str(tmp_path / "c.yaml"))
    assert code == 1 and "unknown key 'feature_sets.light.vidoe': did you mean 'video'?" in the_sentence(err)


def test_a_csv_with_a_missing_column(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    root = meld_root(tmp_path / "meld", header=HEADER.replace("Emotion", "Emotoin"))
    arguments = ["ingest", "meld", "--root", f"meld={root}", "--store", str(tmp_path / "store"), "--no-flow"]
    code, _, err = merloco(capsys, *arguments)
    sentence = the_sentence(err)
    assert code == 1 and "sent_emo.csv" in sentence and "Emotion" in sentence


def test_an_unknown_label_keeps_the_samples_and_names_the_known_labels(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    root = meld_root(tmp_path / "meld", emotion="hapiness")
    store = tmp_path / "store"
    code, _, err = merloco(capsys, "ingest", "meld", "--root", f"meld={root}", "--store", str(store), "--no-flow")
    sentence = the_sentence(err)
    assert code == 1 and "unknown label 'hapiness'" in sentence and "known: anger, disgust" in sentence
    assert (
        merloco(capsys, "sql", "select count(*) as n from samples", "--store", str(store), "--format", "csv")[1]
        == "n\n3\n"
    )


def test_a_store_from_another_label_schema(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    make_store(tmp_path, n=5, extracted=False)
    head = json.loads((tmp_path / "store.json").read_text())
    head["label_order"].reverse()
    (tmp_path / "store.json").write_text(json.dumps(head))
    code, _, err = merloco(capsys, "sql", "select 1", "--store", str(tmp_path))
    assert code == 1 and "label order angry" in the_sentence(err)


def test_malformed_sql(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    make_store(tmp_path, n=5, extracted=False)
    code, _, err = merloco(capsys, "sql", "selec 1", "--store", str(tmp_path))
    assert code == 1 and "SQL: Parser Error" in the_sentence(err)


def test_wrong_usage_exits_with_two(capsys: pytest.CaptureFixture) -> None:
    assert merloco(capsys, "ingest", "meld", "--root", "nonsense")[0] == 2
    assert merloco(capsys, "train", "--train", "meld", "--test", "meld", "--seeds", "one")[0] == 2
    assert merloco(capsys, "plan", "--nonsense")[0] == 2


@pytest.mark.parametrize("option", ["--corpora", "--modalities"])
def test_an_empty_list_is_wrong_usage_and_not_nothing_to_do(
    capsys: pytest.CaptureFixture, tmp_path: Path, option: str
) -> None:
    make_store(tmp_path, n=5, extracted=False)
    code, out, err = merloco(capsys, "plan", option, " , ", "--store", str(tmp_path))
    assert (code, out) == (2, "") and "names nothing" in the_sentence(err)


def test_an_unknown_device_names_those_that_are_there(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    make_store(tmp_path, n=5, extracted=False)
    code, _, err = merloco(capsys, "extract", "--device", "cdua", "--store", str(tmp_path), "--no-flow")
    assert code == 2 and "this machine has no 'cdua': expected auto or cpu" in the_sentence(err)


def test_a_root_of_an_unknown_corpus_names_the_known_ones(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    make_store(tmp_path, n=5, extracted=False)
    code, _, err = merloco(capsys, "extract", "--root", "medl=x", "--store", str(tmp_path), "--no-flow")
    assert code == 2 and "did you mean 'meld'" in the_sentence(err)


def test_a_store_that_cannot_be_written_is_one_sentence(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    root = meld_root(tmp_path / "meld")
    (tmp_path / "file").write_text("no folder")
    store = str(tmp_path / "file" / "store")
    code, _, err = merloco(capsys, "ingest", "meld", "--root", f"meld={root}", "--store", store, "--no-flow")
    assert code == 1 and "Not a directory" in the_sentence(err)


def test_a_second_ingest_of_an_unchanged_release_starts_no_flow(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    arguments = ["ingest", "meld", "--root", f"meld={meld_root(tmp_path / 'meld')}", "--store", str(tmp_path / "store")]
    first = merloco(capsys, *arguments, "--no-flow")[1]
    code, out, err = merloco(capsys, *arguments)
    assert (code, out, err) == (0, first, "unchanged since the last ingest: meld\n")


def test_the_audit_in_numbers_for_machines(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    arguments = ["ingest", "meld", "--root", f"meld={meld_root(tmp_path / 'meld')}", "--store", str(tmp_path / "store")]
    out = merloco(capsys, *arguments, "--no-flow", "--format", "csv")[1].splitlines()
    assert out[:2] == ["corpus,what,split,name,n", "meld,found,,,3"]
    assert "meld,video,,missing_media,3" in out and "meld,usable,val,happy,1" in out


def test_ingest_prints_an_audit_that_adds_up(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    root = meld_root(tmp_path / "meld")
    store = str(tmp_path / "store")
    code, out, _ = merloco(capsys, "ingest", "meld", "--root", f"meld={root}", "--store", store, "--no-flow")
    assert code == 0
    assert "missing_media 3" in out and "Next: merloco extract --corpora meld" in out
    code, out, _ = merloco(
        capsys,
        "sql",
        "select corpus, split, emotion, count(*) as n from labels group by all order by all",
        "--store",
        store,
        "--format",
        "csv",
    )
    assert out.splitlines() == ["corpus,split,emotion,n", "meld,test,happy,1", "meld,train,happy,1", "meld,val,happy,1"]


def test_check_exits_with_one_on_an_error(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert merloco(capsys, "check", "--store", str(tmp_path))[0] == 0
    (store.folder(store.view("minilm")) / "meld-00000.tar").unlink()
    code, out, _ = merloco(capsys, "check", "--store", str(tmp_path))
    assert code == 1 and "missing_file" in out


def test_an_unknown_table_names_the_views(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    make_store(tmp_path, n=5, extracted=False)
    code, _, err = merloco(capsys, "sql", "select * from sampels", "--store", str(tmp_path))
    sentence = the_sentence(err)
    assert code == 1 and "sampels does not exist" in sentence and "views here: samples, labels" in sentence
