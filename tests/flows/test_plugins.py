"""A user's parser and encoder without a change to the house: plugins, dotted paths, entry points."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from merloco.features.catalog import load_catalog
from merloco.features.store import FeatureStore
from merloco.features.views import resolve_view
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.ingest import release_state
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.plugin_files import write_workspace


@pytest.fixture
def module(request: pytest.FixtureRequest) -> str:
    """A module name of this test alone: a process imports one module of a name."""
    return f"plugin_{sha256(request.node.nodeid.encode()).hexdigest()[:12]}"


@pytest.mark.server
def test_an_own_corpus_and_encoder_go_from_ingest_to_sql_in_worker_processes(tmp_path: Path) -> None:
    write_workspace(tmp_path / "work", "plugin_of_processes")
    place = tmp_path / "elsewhere"
    place.mkdir()
    options = ["--store", str(tmp_path / "store"), "--catalog", str(tmp_path / "work" / "catalog.yaml")]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "merloco.flows.cli.app", *arguments, *options]
        return subprocess.run(command, capture_output=True, text=True, cwd=place)

    ingest = run("ingest", "mine", "--root", f"mine={tmp_path / 'work' / 'release'}", "--no-flow")
    assert ingest.returncode == 0, ingest.stderr
    done = run("extract", "--features", "own", "--runner", "processes")
    assert done.returncode == 0 and "Extracted 1 of 1 shards, 40 samples" in done.stdout + done.stderr, done
    asked = run("sql", "select count(*) as n, len(any_value(pooled)) as width from letters", "--format", "jsonl")
    assert json.loads(asked.stdout) == {"n": 40, "width": 5}


def test_one_process_does_the_same_and_trains(tmp_path: Path, capsys: pytest.CaptureFixture, module: str) -> None:
    catalog = str(write_workspace(tmp_path, module))
    places = ("--catalog", catalog, "--store", str(tmp_path / "store"))
    root = ("--root", f"mine={tmp_path / 'release'}")
    assert merloco(capsys, "ingest", "mine", *root, "--no-flow", *places)[0] == 0
    assert merloco(capsys, "extract", "--features", "own", "--no-flow", *places)[0] == 0
    train = ("train", "--train", "mine", "--test", "mine", "--features", "own", "--epochs", "2", "--no-flow")
    assert merloco(capsys, *train, *places)[0] == 0
    out = merloco(capsys, "kinds", "--format", "jsonl", "--catalog", catalog)[1]
    rows = [json.loads(line) for line in out.splitlines()]
    own = {(row["what"], row["option"]): row for row in rows if row["from"] == f"plugin {module}"}
    about = "Lines of `label<TAB>sentence`."
    assert own["parser", "file"] == {
        "what": "parser", "name": f"{module}:parse", "from": f"plugin {module}", "about": about,
        "option": "file", "type": "str", "default": "'lines.txt'", "meaning": None,
    }  # fmt: skip
    assert own["encoder", "scale"]["default"] == "1.0" and own["encoder", "scale"]["type"] == "float"
    assert {row["name"] for row in rows if row["from"] == "built in"} >= {"iemocap", "meld", "prosody", "hf_text"}


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("plugins: [{m}]", "plugins: [no_such_module]", 1, "plugins: module 'no_such_module' not found: expected no_s"),
        ("plugins: [{m}]", "plugins: [{m}, 'a b']", 1, "plugins: 'a b' is no module"),
        ("plugins: [{m}]", "plugins: {m}", 1, "plugins: expected a list"),
        ("{m}:parse", "{m}:parze", 5, "corpora.mine.parser: module '{m}' has no 'parze': did you mean 'parse'?"),
        ("{m}:parse", "{m}:np", 5, "'{m}:np' is module, which cannot be called"),
        ("{m}:parse", "no_such_module:parse", 5, "corpora.mine.parser: module 'no_such_module' not found"),
        ("{m}:parse", "{m}:Options", 5, "expected a function (entry, root, options)"),
        ("{file: lines.txt}", "{fil: lines.txt}", 6, "options.fil' of the parser {m}:parse: did you mean 'file'?"),
        ("{file: lines.txt}", "{file: [1]}", 6, "corpora.mine.options.file: expected text, found a list"),
        ("{m}:Letters", "{m}:Leters", 13, "encoders.letters.kind: encoder kind '{m}:Leters': module '{m}' has no"),
        ("'{m}:Letters'", "leters", 13, "encoders.letters.kind: unknown encoder kind 'leters'"),
        ("{letters: aeiou}", "{leters: aeiou}", 13, "leters' of the encoder {m}:Letters: did you mean 'letters'?"),
        ("{letters: aeiou}", "{scale: big}", 13, "letters.parameters.scale: expected a number, found the text 'big'"),
        ("modality: text", "modality: audio", 13, "encoders.letters.modality: {m}:Letters is of text"),
    ],
)
def test_what_a_plugin_lacks_is_one_sentence_with_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, module: str, old: str, new: str, line: int, sentence: str
) -> None:
    catalog = write_workspace(tmp_path, module)
    text = catalog.read_text()
    old, new, sentence = (part.replace("{m}", module) for part in (old, new, sentence))
    assert old in text
    if new == "modality: audio":
        text = text.replace("{text: letters}", "{audio: letters}")
    catalog.write_text(text.replace(old, new))
    code, _, err = merloco(capsys, "sql", "select 1", "--catalog", str(catalog))
    assert code == 1 and f"catalog.yaml:{line}: " in the_sentence(err) and sentence in err, err


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import no_such_package_of_mine", "no_such_package_of_mine"),
        ("x = 1\ndef f(:\n", "bad.py:2: "),
        ("x = 1\nx.y\n", "bad.py:2: AttributeError: "),
        ("raise SystemExit(3)", "bad.py:1: SystemExit: 3"),
        (
            "from merloco.pipelines.corpora.base import register_parser\n"
            "@register_parser('meld')\ndef parse(entry, root, options): ...",
            "parser 'meld' is merloco.pipelines.corpora.meld's already",
        ),
        (
            "from merloco.models.encoders.base import register_encoder\n@register_encoder('prosody')\nclass Mine: ...",
            "encoder kind 'prosody' is merloco.models.encoders.light.audio's already",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_says_why_and_where(
    tmp_path: Path, module: str, source: str, sentence: str
) -> None:
    catalog = write_workspace(tmp_path, module)
    (tmp_path / f"{module}bad.py").write_text(source)
    catalog.write_text(catalog.read_text().replace(f"[{module}]", f"[{module}, {module}bad]"))
    beginning = rf"catalog\.yaml:1: plugins: module '{module}bad' cannot be imported: "
    with pytest.raises(DataError, match=beginning) as error:
        load_catalog(catalog)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_file_beside_the_catalog_with_the_name_of_another_module_is_refused(tmp_path: Path, module: str) -> None:
    catalog = write_workspace(tmp_path, module)
    (tmp_path / "colorsys.py").write_text("x = 1")
    catalog.write_text(catalog.read_text().replace(f"[{module}]", "[colorsys]"))
    with pytest.raises(DataError, match=r"catalog\.yaml:1: plugins: module 'colorsys' is .*not the file beside"):
        load_catalog(catalog)


def test_the_fingerprint_follows_code_parameters_and_weights_but_a_version_stands_for_the_code(
    tmp_path: Path, module: str
) -> None:
    catalog = write_workspace(tmp_path, module)
    plugin, weights = tmp_path / f"{module}.py", tmp_path / "weights.bin"

    def fingerprint() -> str:
        return resolve_view(load_catalog(catalog), "letters").fingerprint

    prints = [fingerprint()]
    plugin.write_text(plugin.read_text() + "# another version\n")
    prints.append(fingerprint())
    catalog.write_text(catalog.read_text().replace("letters: aeiou", "letters: xyz"))
    prints.append(fingerprint())
    catalog.write_text(catalog.read_text().replace("modality: text", f"modality: text, checkpoint: {weights}"))
    for content in (b"1", b"22"):
        weights.write_bytes(content)
        prints.append(fingerprint())
    assert len(set(prints)) == 5
    sys.modules[module].Letters.version = 1
    kept = fingerprint()
    plugin.write_text(plugin.read_text() + "# a comment\n")
    assert fingerprint() == kept


def test_a_changed_parser_reads_the_release_again(tmp_path: Path, module: str) -> None:
    entry = load_catalog(write_workspace(tmp_path, module)).corpus("mine")
    before = release_state(entry, tmp_path / "release")
    assert release_state(entry, tmp_path / "release") == before
    with open(tmp_path / f"{module}.py", "a") as file:
        file.write("# read otherwise\n")
    assert release_state(entry, tmp_path / "release") != before


def test_installed_packages_bring_parsers_and_encoders_by_entry_points(tmp_path: Path) -> None:
    """In a process of its own, with a package as pip would install it."""
    catalog = write_workspace(tmp_path / "work", "brought")
    about = tmp_path / "site" / "brought-1.0.dist-info"
    about.mkdir(parents=True)
    (tmp_path / "work" / "brought.py").rename(tmp_path / "site" / "brought.py")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[merloco.corpora]\nlines = brought:parse\n[merloco.encoders]\nletters = brought:Letters\ngone = brought:Gone\n"
    )
    text = catalog.read_text().replace("plugins: [brought]\n", "")
    catalog.write_text(text.replace("brought:parse", "lines").replace("'brought:Letters'", "letters"))
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)])
    command = [sys.executable, "-m", "merloco.flows.cli.app", "kinds", "--format", "jsonl", "--catalog", str(catalog)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {row["name"]: row for row in rows if row["from"] != "built in"}
    assert found["lines"]["from"] == "entry point brought:parse" and found["lines"]["option"] == "file", done
    assert found["letters"]["from"] == "entry point brought:Letters"
    assert "has no 'Gone'" in found["gone"]["about"]


def test_a_pydantic_model_of_parameters_is_taken(tmp_path: Path, module: str) -> None:
    catalog = write_workspace(tmp_path, module)
    plugin = tmp_path / f"{module}.py"
    model = "class Parameters(BaseModel):\n    letters: str\n    scale: float = 2\n\nclass Letters:"
    declared = 'parameters = {"letters": "etaoin", "scale": 1.0}'
    plugin.write_text(plugin.read_text().replace(declared, "parameters = Parameters").replace("class Letters:", model))
    store = FeatureStore(tmp_path, load_catalog(catalog))
    assert store.view("letters").definition["encoder"]["parameters"] == {"letters": "aeiou", "scale": 2.0}
    assert store.view("letters").build("cpu").scale == 2.0
    catalog.write_text(catalog.read_text().replace("{letters: aeiou}", "{letter: aeiou}"))
    with pytest.raises(DataError, match=r"catalog\.yaml:13: .*parameters\.letter' .*did you mean 'letters'"):
        load_catalog(catalog)
