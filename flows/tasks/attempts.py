"""Trying every task of a command or flow although some fail, and failing at the end with every reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from merloco.models.errors import ModelError
from merloco.pipelines.errors import DataError

T = TypeVar("T")


class TasksFailedError(DataError):
    """Some tasks failed; `outcomes` still has what the others returned."""

    def __init__(self, outcomes: Mapping[str, Any]) -> None:
        """Join the sentences of the errors.

        Args:
            outcomes: Task -> what it returned, or its error.
        """
        errors = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
        super().__init__("; ".join(dict.fromkeys(str(error) for error in errors)))
        self.outcomes = outcomes
        self.exit_code = max(getattr(error, "exit_code", 1) for error in errors)

    def __reduce__(self) -> tuple[type[TasksFailedError], tuple[Mapping[str, Any]]]:
        """Prefect hands the errors of flows from process to process."""
        return type(self), (self.outcomes,)


def attempt_all(tasks: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Run one task after the other; a task that fails does not keep the others from being tried.

    Args:
        tasks: Name -> task.

    Returns:
        Name -> what the task returned.

    Raises:
        TasksFailedError: Tasks failed for reasons that a user can mend.
        Exception: The first error that is one of the code or of the machine, as it was raised.
    """
    outcomes: dict[str, Any] = {}
    for name, task in tasks.items():
        try:
            outcomes[name] = task()
        except Exception as error:
            outcomes[name] = error
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
    if errors:
        raise_code_error(errors)
        raise TasksFailedError(outcomes)
    return outcomes


def raise_code_error(errors: Sequence[Exception]) -> None:
    """Raise the first error that a user cannot mend: a sentence must not hide it."""
    for error in errors:
        if not isinstance(error, (DataError, ModelError)):
            raise error
