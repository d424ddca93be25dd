"""IEMOCAP: labels by rule, speakers by the last letter, sides by the marker actor."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.pipelines.catalog.entries import Validation
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.base import Parsed, parse_corpus
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import to_table
from tests.helpers.iemocap_release import HEADER, block, write_dialogue
from tests.helpers.store_files import CATALOG

ENTRY = load_catalog(CATALOG).corpus("iemocap")
CODES = ("ang", "dis", "exc", "fea", "fru", "hap", "neu", "oth", "sad", "sur", "xxx")
COUNTS = {
    1: (229, 1, 143, 12, 280, 135, 384, 1, 194, 25, 415),
    2: (137, 0, 210, 9, 325, 117, 362, 1, 197, 17, 436),
    3: (240, 1, 151, 2, 382, 135, 320, 0, 305, 28, 572),
    4: (327, 0, 238, 7, 481, 65, 258, 1, 143, 19, 564),
    5: (170, 0, 299, 10, 381, 143, 384, 0, 245, 18, 520),
}
"""Consensus labels per session of the release."""
SELF_HAPPY = {1: 8, 2: 8, 3: 36, 4: 0, 5: 1}
"""Undecided utterances that the field's 7433 labels call happy."""
PROMOTED = "C-E1:\tHappiness;\t()\nC-E2:\tExcited;\t()\nC-E3:\tNeutral; Happiness;\t()\nC-F1:\tHappiness;\t()\n"
DECOYS = (
    "C-E1:\tHappiness;\t()\nC-E2:\tSadness;\t()\nC-F1:\tHappiness; Excited;\t()\n",  # the actor names two
    "C-E1:\tHappiness; Other;\t()\nC-E2:\tSadness;\t()\nC-M1:\tHappiness;\t()\n",  # no evaluator says it alone
    "C-E1:\tHappiness;\t()\nC-E2:\tSadness;\t()\n",  # no self-evaluation
    "C-E1:\tSadness;\t()\nC-E2:\tAnger;\t()\nC-F1:\tSadness;\t()\n",  # another class is never promoted
)


def parse(root: Path) -> Parsed:
    return parse_corpus("iemocap", ENTRY, root)


@pytest.fixture(scope="module")
def whole_release(tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    """10,039 labelled utterances with the label and vote patterns of the release."""
    root = tmp_path_factory.mktemp("iemocap")
    for session, counts in COUNTS.items():
        codes = [code for code, n in zip(CODES, counts, strict=True) for _ in range(n)]
        decoys = itertools.cycle(DECOYS)
        promoted = itertools.chain([PROMOTED] * SELF_HAPPY[session], decoys)
        blocks: dict[str, list[str]] = {}
        for i, code in enumerate(codes):
            dialogue = f"Ses0{session}{'FM'[i % 2]}_impro0{1 + i // 2 % 7}"
            members = blocks.setdefault(dialogue, [])
            name = f"{dialogue}_{'FM'[len(members) % 2]}{len(members):03d}"
            members.append(block(name, 3.0 * len(members), code, next(promoted) if code == "xxx" else DECOYS[0]))
        for dialogue, members in blocks.items():
            write_dialogue(root, dialogue, "".join(members))
    return parse(root)


def kept(parsed: Parsed, name: str) -> Counter:
    labels = apply_map(to_table(parsed.samples), "iemocap", ENTRY.maps[name])
    return Counter(emotion for emotion in labels["emotion"].to_pylist() if emotion)


@pytest.mark.parametrize(
    ("name", "total", "happy"),
    [("six", 7380, 595), ("six_lineage", 7433, 648), ("four", 5531, 1636), ("seven", 5680, 1636)],
)
def test_label_sets_are_computed_by_rule(whole_release: Parsed, name: str, total: int, happy: int) -> None:
    assert len(whole_release.samples) == 10039
    counts = kept(whole_release, name)
    assert (sum(counts.values()), counts["happy"]) == (total, happy)


def test_frustrated_can_count_as_angry(whole_release: Parsed) -> None:
    assert kept(whole_release, "seven_fru_angry")["angry"] == 1103 + 1849


def test_session_five_is_the_test_part(whole_release: Parsed) -> None:
    table = to_table(whole_release.samples)
    labels = apply_map(table, "iemocap", ENTRY.maps["six_lineage"]).to_pylist()
    test = [row for row in labels if row["split"] == "test" and row["emotion"]]
    assert len(test) == 1623
    assert all(row["sample_id"].startswith("iemocap/Ses05") for row in test)


def test_leaving_each_session_out_tests_every_utterance_once_and_moves_no_id(tmp_path: Path) -> None:
    for session in range(1, 6):
        dialogue = f"Ses0{session}F_impro01"
        write_dialogue(tmp_path, dialogue, "".join(block(f"{dialogue}_F00{i}", 3.0 * i, "neu") for i in range(3)))
    folds = {}
    for session in range(1, 6):
        entry = ENTRY.model_copy(update={"options": {"test_session": session}})
        folds[session] = {s.sample_id: s.split for s in parse_corpus("iemocap", entry, tmp_path).samples}
    tested = [
        i for session, splits in folds.items() for i, s in splits.items() if s == "test" and f"Ses0{session}" in i
    ]
    assert sorted(tested) == sorted(folds[5])
    assert all(splits.keys() == folds[5].keys() for splits in folds.values())
    assert all(list(splits.values()).count("test") == 3 for splits in folds.values())


def test_a_test_session_without_a_sample_is_noted(tmp_path: Path) -> None:
    write_dialogue(tmp_path, "Ses01F_impro01", block("Ses01F_impro01_F000", 0, "neu"))
    sentence = "catalog: test_session {} has no sample here: the test split is empty"
    for session, empty in ((1, False), (4, True)):
        entry = ENTRY.model_copy(update={"options": {"test_session": session}})
        assert (sentence.format(session) in parse_corpus("iemocap", entry, tmp_path).notes) is empty


def test_validation_keeps_dialogues_together(whole_release: Parsed) -> None:
    splits: dict[str, set[str]] = {}
    for sample in whole_release.samples:
        splits.setdefault(sample.dialogue, set()).add(sample.split)
    assert all(len(found) == 1 for found in splits.values())
    val = sum(sample.split == "val" for sample in whole_release.samples)
    assert val == pytest.approx(0.1 * (10039 - 2170), rel=0.15)


def test_a_validation_of_the_papers_size_is_581_labelled_utterances(tmp_path: Path) -> None:
    blocks = "".join(block(f"Ses01F_impro01_F{i:03d}", 3.0 * i, "xxx" if i % 4 == 0 else "ang") for i in range(900))
    write_dialogue(tmp_path, "Ses01F_impro01", blocks)
    by_utterance = ENTRY.model_copy(update={"validation": Validation(by="utterance", size=581, seed=1)})
    chosen = [s for s in parse_corpus("iemocap", by_utterance, tmp_path).samples if s.split == "val"]
    assert len(chosen) == 581 and {s.label for s in chosen} == {"ang"}


def test_the_speaker_is_the_last_letter_and_the_marker_actor_sits_left(tmp_path: Path) -> None:
    for dialogue in ("Ses01F_impro01", "Ses01M_impro01"):
        write_dialogue(tmp_path, dialogue, block(f"{dialogue}_F000", 0, "neu") + block(f"{dialogue}_M000", 3, "neu"))
    found = {s.sample_id.rsplit("/", 1)[1]: (s.speaker, s.video_side) for s in parse(tmp_path).samples}
    assert found == {
        "Ses01F_impro01_F000": ("Ses01_F", "left"),
        "Ses01F_impro01_M000": ("Ses01_M", "right"),
        "Ses01M_impro01_F000": ("Ses01_F", "right"),
        "Ses01M_impro01_M000": ("Ses01_M", "left"),
    }


def test_votes_vad_comments_and_missing_dominance_are_kept(tmp_path: Path) -> None:
    votes = (
        "C-E1:\tAnger; Frustration;\t()\nC-F1:\tAnger;\t(caf\xe9)\n"
        "A-E3:\tval 2; act 4; dom  4;\t()\nA-E4:\tval 1; act 4; dom ;\t(threatening)\n"
    )
    write_dialogue(tmp_path, "Ses01F_impro01", block("Ses01F_impro01_F000", 0, "ang", votes))
    native = parse(tmp_path).samples[0].native
    assert native["votes"] == {"E1": ["Anger", "Frustration"], "F1": ["Anger"]}
    assert native["comments"] == {"C-F1": "café", "A-E4": "threatening"}
    assert native["attributes"] == {"E3": {"val": 2, "act": 4, "dom": 4}, "E4": {"val": 1, "act": 4, "dom": None}}
    assert (native["valence"], native["activation"], native["dominance"]) == (2.5, 3.0, 3.5)
    assert native["session"] == "Ses01"


def test_transcripts_split_at_the_first_bracket_colon_and_keep_tags_natively(tmp_path: Path) -> None:
    text = (
        "Ses01F_impro01_F000 [0.0000-2.0000]: [LAUGHTER] Look: it is 3]: here.\n"
        "Ses01F_impro01_MXX0 [2.0000-2.5000]: Yes.\n"
        "M: a bare speaker tag\n"
        "Ses01F_impro01_F001 no interval at all\n"
    )
    blocks = block("Ses01F_impro01_F000", 0, "hap") + block("Ses01F_impro01_F001", 3, "hap")
    write_dialogue(tmp_path, "Ses01F_impro01", blocks, text)
    parsed = parse(tmp_path)
    first, second = parsed.samples
    assert first.text == "Look: it is 3]: here."
    assert first.native["transcript"] == "[LAUGHTER] Look: it is 3]: here."
    assert (second.text, second.text_status) == (None, "no_text")
    assert [(e.code, e.line) for e in parsed.errors] == [("overlap_turn", 2), ("bad_transcript", 4)]


@pytest.mark.parametrize("tags", ["strip", "keep"])
def test_an_utterance_of_tags_alone_has_no_text_and_keeps_its_tag_as_a_fact(tmp_path: Path, tags: str) -> None:
    text = "Ses01F_impro01_F000 [0.0000-2.0000]: [BREATHING]\n"
    write_dialogue(tmp_path, "Ses01F_impro01", block("Ses01F_impro01_F000", 0, "sad"), text)
    (sample,) = parse_corpus("iemocap", ENTRY.model_copy(update={"options": {"tags": tags}}), tmp_path).samples
    assert sample.text_status == "no_text" and sample.native["transcript"] == "[BREATHING]"
    assert "only_tags" in sample.marks and sample.text_source == "transcript", "there is nothing to transcribe"


def test_a_second_block_of_an_utterance_says_both_places(tmp_path: Path) -> None:
    blocks = block("Ses01F_impro01_F000", 0, "sad") + block("Ses01F_impro01_F000", 0, "ang")
    write_dialogue(tmp_path, "Ses01F_impro01", blocks)
    parsed = parse(tmp_path)
    (error,) = [e for e in parsed.errors if e.code == "duplicate_row"]
    assert "Ses01F_impro01_F000 is also in Session1/dialog/EmoEvaluation/Ses01F_impro01.txt:" in error.message
    assert [s.label for s in parsed.samples] == ["sad"] and error.line > 1


def test_tags_stay_in_the_text_where_the_catalog_says_so(tmp_path: Path) -> None:
    text = "Ses01F_impro01_F000 [0.0000-2.0000]: [LAUGHTER] Look.\n"
    write_dialogue(tmp_path, "Ses01F_impro01", block("Ses01F_impro01_F000", 0, "hap"), text)
    keep = ENTRY.model_copy(update={"options": {"tags": "keep"}})
    (sample,) = parse_corpus("iemocap", keep, tmp_path).samples
    assert (sample.text, sample.native["transcript"]) == ("[LAUGHTER] Look.", "[LAUGHTER] Look.")


def test_sound_is_the_sentence_else_the_dialogue_by_interval(tmp_path: Path) -> None:
    blocks = block("Ses01F_impro01_F000", 0, "neu") + block("Ses01F_impro01_F001", 3, "neu")
    write_dialogue(tmp_path, "Ses01F_impro01", blocks)
    session = tmp_path / "Session1"
    sentence = session / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_F000.wav"
    for path in (sentence, session / "dialog" / "wav" / "Ses01F_impro01.wav", sentence.with_name("._x.wav")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"wav")
    first, second = parse(tmp_path).samples
    assert (first.audio_start, first.audio_status) == (None, "ok") and first.audio_path.endswith("F000.wav")
    assert (second.audio_path, second.audio_start, second.audio_end) == ("Session1/dialog/wav/Ses01F_impro01.wav", 3, 5)
    assert first.video_status == "missing_media"


def test_turns_are_in_time_order_although_the_file_is_not(tmp_path: Path) -> None:
    blocks = "".join(block(f"Ses01F_impro01_{t}", s, "neu") for t, s in (("F000", 0), ("F001", 6), ("M000", 3)))
    write_dialogue(tmp_path, "Ses01F_impro01", blocks)
    turns = {s.sample_id[-4:]: s.turn for s in parse(tmp_path).samples}
    assert turns == {"F000": 0, "M000": 1, "F001": 2}


def test_evaluator_files_and_stubs_are_not_read(tmp_path: Path) -> None:
    write_dialogue(tmp_path, "Ses01F_impro01", block("Ses01F_impro01_F000", 0, "neu"))
    folder = tmp_path / "Session1" / "dialog" / "EmoEvaluation"
    (folder / "Categorical").mkdir()
    (folder / "Categorical" / "Ses01F_impro01_e1_cat.txt").write_text("Ses01F_impro01_F000 :Neutral state; ()\n")
    (folder / "._Ses01F_impro01.txt").write_bytes(bytes(32))
    assert len(parse(tmp_path).samples) == 1


def test_a_file_that_cannot_be_read_costs_its_own_dialogue(tmp_path: Path) -> None:
    for dialogue in ("Ses01F_impro01", "Ses01F_impro02"):
        write_dialogue(tmp_path, dialogue, block(f"{dialogue}_F000", 0, "neu"), "")
    folder = tmp_path / "Session1" / "dialog" / "EmoEvaluation"
    (folder / "Ses01F_impro02.txt").write_bytes((HEADER + block("Ses01F_impro02_F000", 0, "neu")).encode("utf-16"))
    parsed = parse(tmp_path)
    assert [s.sample_id for s in parsed.samples] == ["iemocap/Ses01F_impro01/Ses01F_impro01_F000"]
    assert {e.file for e in parsed.left_out} == {"Session1/dialog/EmoEvaluation/Ses01F_impro02.txt"}


def test_a_damaged_vote_costs_no_row(tmp_path: Path) -> None:
    votes = "C-E1:\tAnger;\t()\nC-E?:\tAnger;\t()\n"
    write_dialogue(tmp_path, "Ses01F_impro01", block("Ses01F_impro01_F000", 0, "ang", votes))
    parsed = parse(tmp_path)
    assert (parsed.found, len(parsed.samples), [e.code for e in parsed.damaged]) == (1, 1, ["bad_vote"])


@settings(max_examples=60)
@given(
    which=st.integers(0, 3),
    junk=st.text(alphabet=st.characters(max_codepoint=255, exclude_characters="\n\r"), min_size=1, max_size=60).filter(
        lambda line: line.strip() and not line.strip().startswith("[")
    ),
)
def test_any_mangled_vote_line_costs_that_vote_only(tmp_path: Path, which: int, junk: str) -> None:
    lines = "".join(block(f"Ses01F_impro01_F00{i}", 3.0 * i, "neu") for i in range(4)).split("\n")
    lines[which * 3 + 1] = junk
    write_dialogue(tmp_path, "Ses01F_impro01", "\n".join(lines))
    parsed = parse(tmp_path)
    votes = {s.sample_id[-4:]: s.native["votes"] for s in parsed.samples}
    assert len(votes) == 4 and parsed.left_out == []
    assert all(votes[f"F00{i}"] == {"E1": ["Anger"]} for i in range(4) if i != which)
    assert all(e.line == 4 + 3 * which for e in parsed.damaged)


def test_an_empty_root_names_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="EmoEvaluation"):
        parse(tmp_path)


@settings(max_examples=60)
@given(
    which=st.integers(0, 3),
    junk=st.text(alphabet=st.characters(max_codepoint=255, exclude_characters="\n\r"), max_size=60),
)
def test_any_mangled_summary_line_costs_that_utterance_only(tmp_path: Path, which: int, junk: str) -> None:
    blocks = [block(f"Ses01F_impro01_F00{i}", 3.0 * i, "neu") for i in range(4)]
    lines = "".join(blocks).split("\n")
    lines[which * 3] = junk
    write_dialogue(tmp_path, "Ses01F_impro01", "\n".join(lines))
    parsed = parse(tmp_path)
    kept_names = {s.sample_id[-4:] for s in parsed.samples}
    assert kept_names >= {f"F00{i}" for i in range(4) if i != which}
    for error in parsed.errors:
        assert error.file == "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
        # Where the line is gone altogether, the vote below it is the first one that cannot be placed.
        assert error.line in ((3 + 3 * which,) if junk.strip() else (4 + 3 * which, 5 + 3 * which))


@settings(max_examples=60)
@given(
    which=st.integers(0, 2),
    junk=st.text(alphabet=st.characters(max_codepoint=255, exclude_characters="\n\r"), max_size=60),
)
def test_any_mangled_transcript_line_costs_that_text_only(tmp_path: Path, which: int, junk: str) -> None:
    blocks = "".join(block(f"Ses01F_impro01_F00{i}", 3.0 * i, "neu") for i in range(3))
    lines = [f"Ses01F_impro01_F00{i} [{3 * i}.0000-{3 * i + 2}.0000]: line {i}" for i in range(3)]
    lines[which] = junk
    write_dialogue(tmp_path, "Ses01F_impro01", blocks, "\n".join(lines))
    parsed = parse(tmp_path)
    texts = {s.sample_id[-4:]: s.text for s in parsed.samples}
    assert len(texts) == 3
    assert all(texts[f"F00{i}"] == f"line {i}" for i in range(3) if i != which)
    assert all(error.line == which + 1 for error in parsed.errors)
