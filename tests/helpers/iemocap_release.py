"""IEMOCAP dialogues of a few turns."""

from pathlib import Path

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"


def block(name: str, start: float, code: str, votes: str = "C-E1:\tAnger;\t()\n") -> str:
    return f"[{start:.4f} - {start + 2:.4f}]\t{name}\t{code}\t[2.5000, 3.0000, 3.5000]\n{votes}\n"


def write_dialogue(root: Path, dialogue: str, blocks: str, transcript: str | None = "") -> None:
    folder = root / f"Session{dialogue[4]}" / "dialog"
    (folder / "EmoEvaluation").mkdir(parents=True, exist_ok=True)
    (folder / "EmoEvaluation" / f"{dialogue}.txt").write_text(HEADER + blocks, encoding="latin-1")
    if transcript is not None:
        (folder / "transcriptions").mkdir(parents=True, exist_ok=True)
        (folder / "transcriptions" / f"{dialogue}.txt").write_text(transcript, encoding="latin-1")
