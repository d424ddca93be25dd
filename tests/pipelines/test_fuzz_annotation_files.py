"""The fuzz script with its small default; `python -m tests.fuzz.annotation_files --count 10000` is the long form."""

from tests.fuzz.annotation_files import TRIALS, run


def test_mangled_annotation_files_and_catalogs_give_rows_that_add_up_or_one_sentence() -> None:
    figures = run(200)
    assert figures.failures == []
    assert {kind for kind, _ in figures.outcomes} == set(TRIALS) and figures.found == figures.samples + figures.left_out
