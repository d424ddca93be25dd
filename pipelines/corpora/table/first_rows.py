"""The first row of each sample id, against which every later one is held."""

from __future__ import annotations

from dataclasses import dataclass, field

from merloco.pipelines.corpora.base import Parsed, RowError, disagreement, duplicate
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import Sample

Names = tuple[str, ...]
"""What an id is made of, as it stands in the table."""
_COMPARED = (
    *("label", "intensities", "split", "speaker", "dialogue", "turn", "start", "end", "text"),
    *("audio_path", "video_path"),
)


@dataclass(slots=True)
class FirstRows:
    """Samples by id; `parsed` gets the place of each first row, and an error for every other one."""

    parsed: Parsed
    _rows: dict[str, tuple[Sample, Names]] = field(default_factory=dict)

    def add(self, sample: Sample, names: Names, file: str, line: int) -> bool:
        """Whether a sample is the first one of its id.

        Raises:
            DataError: It is another row of the same utterance that says something else.
        """
        sample_id = sample.sample_id
        if sample_id not in self._rows:
            self._rows[sample_id] = sample, names
            self.parsed.places[sample_id] = file, line
            return True
        (first, before), where = self._rows[sample_id], self.parsed.places[sample_id]
        if before != names:
            problem = (
                f"{'/'.join(names)!r} gives the sample id {sample_id}, as {'/'.join(before)!r} of "
                f"{where[0]}:{where[1]} does, which is kept; expected names that differ in letters and digits"
            )
            self.parsed.errors.append(RowError("same_id", file, line, problem))
            return False
        for name in _COMPARED:
            one, other = getattr(first, name), getattr(sample, name)
            if one != other:
                raise DataError(disagreement(file, line, sample_id, where, name, one, other))
        self.parsed.errors.append(duplicate(file, line, sample_id, where))
        return False
