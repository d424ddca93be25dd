"""The parser `table`: corpora without code, as the catalog describes them."""

from __future__ import annotations

from pathlib import Path

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.corpora.base import Parsed, register_parser
from merloco.pipelines.corpora.table.options import TableOptions


@register_parser("table", options=TableOptions)
def parse_table(entry: CorpusEntry, root: Path, options: TableOptions) -> Parsed:
    """Parse a corpus that its options describe; one whose media are not there is accepted.

    Raises:
        DataError: A table or a column is missing, nothing fits the pattern, rows that disagree, times in another unit
            than seconds, or splits that cannot be made.
    """
    # Every command loads the catalog, and with it this module; few read a corpus.
    from merloco.pipelines.corpora.table.reading import read_corpus

    return read_corpus(entry, root, options)
