"""What a store says, to compare two of them; and a release to fill one with."""

import json
from pathlib import Path

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"


TIMES = '"00:00:01,000","00:00:02,500"'


EMOTIONS = ("neutral", "joy", "sadness", "anger")


def write_release(root: Path, train: int) -> Path:
    """A MELD release without media: `train` lines for training, 40 for validation and test each; Bob says every 9th."""
    for part, n in (("train", train), ("dev", 40), ("test", 40)):
        rows = [
            f"{i},line {i} of {part} says {e},{'Ann' if i % 9 else 'Bob'},{e},x,{i // 5},{i % 5},1,1,{TIMES}"
            for i, e in emotions(n)
        ]
        (root / f"{part}_sent_emo.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return root


def emotions(n: int) -> list[tuple[int, str]]:
    return [(i, EMOTIONS[(i * 7) % 4]) for i in range(n)]


def contents(root: Path) -> dict[str, bytes | dict]:
    """All that a store says: its files byte for byte, of run records and commit records what does not tell the time.

    Of the deletion list nothing is compared: it is hashed with a key that every store has for itself.
    """
    found: dict[str, bytes | dict] = {}
    finished = (p for p in root.rglob("*") if not any(part.startswith(".") for part in p.relative_to(root).parts))
    for path in sorted(p for p in finished if p.is_file() and p.relative_to(root).parts[0] != "deletions"):
        value: bytes | dict = path.read_bytes()
        if path.name == "config.json" and path.relative_to(root).parts[0] == "runs":
            value = json.loads(value)["config"]
        elif path.name.endswith((".commit.json", ".audit.json")):
            value = {key: v for key, v in json.loads(value).items() if key not in ("seconds", "state")}
        found[str(path.relative_to(root))] = value
    return found
