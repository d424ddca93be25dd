"""A little of the fuzzing, in every test run; `python -m tests.fuzz.media --count 5000` does more."""

from pathlib import Path

from tests.fuzz import media


def test_mangled_media_have_a_row_each(tmp_path: Path) -> None:
    outcome = media.run(60, 0, tmp_path)
    assert outcome.problems == []
    assert sum(outcome.statuses.values()) == 120
    assert {status for _, _, status in outcome.statuses} >= {"ok", "decode_error", "no_video"}
