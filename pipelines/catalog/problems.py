"""What pydantic finds wrong with a catalog, as one sentence: its own report names Python types, not catalog keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from merloco.pipelines.errors import suggest

Location = tuple[int | str, ...]
_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "literal_error": "{expected}",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "{le:g} or less",
    "too_short": "one or more",
    "string_too_short": "some text",
}
"""Kind of problem -> what was expected."""


def first_problem(error: ValidationError, model: type[BaseModel], place: Location = ()) -> tuple[Location, str]:
    """Where the first problem is, and a sentence that says what was found and what was expected.

    Args:
        error: What the validation raised.
        model: What was validated.
        place: Where in the catalog its values stand.
    """
    problems = error.errors()
    # A misspelt key is also a missing one: the misspelling is what the user has to see.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = (*place, *problem["loc"])
    where = ".".join(str(part) for part in location)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        known = suggest(str(location[-1]), known_keys(model, problem["loc"][:-1]))
        return location, f"unknown key {where!r}: {known}{more}"
    if problem["type"] == "missing":
        return location, f"key {where!r} is missing{more}"
    return location, f"{f'{where}: ' if where else ''}{_sentence(problem)}{more}"


def _sentence(problem: ErrorDetails) -> str:
    kind, found = problem["type"], problem["input"]
    if kind not in _EXPECTED:
        return problem["msg"].removeprefix("Value error, ")
    expected = _EXPECTED[kind].format(**problem.get("ctx", {}))
    return f"expected {expected}, found {_shown(found)}{_hint(kind, found)}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, (tuple, dict)):
        return ("an empty " if not value else "a ") + ("list" if isinstance(value, tuple) else "mapping")
    return str(value)


def _hint(kind: str, found: Any) -> str:
    if kind == "string_type" and not isinstance(found, (tuple, dict)):
        return ": quote it"
    if kind == "bool_type" and isinstance(found, str) and found.lower() in ("yes", "on", "y"):
        return ": write true"
    if kind == "bool_type" and isinstance(found, str) and found.lower() in ("no", "off", "n"):
        return ": write false"
    if kind == "int_type" and isinstance(found, float) and found.is_integer():
        return f": write {int(found)}"
    if kind == "tuple_type" and isinstance(found, str):
        return f": write [{found}]"
    return ""


def known_keys(model: Any, location: Location = ()) -> list[str]:
    """Known keys at a location, found by walking the models' annotations."""
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = next((f for name, f in model.model_fields.items() if str(part) in (name, f.alias)), None)
            model = field and field.annotation
        else:  # dict[str, Entry]: the key is a user's name, its value a model
            model = (getattr(model, "__args__", ()) or (None,))[-1]
        if not isinstance(model, type) and type(None) in getattr(model, "__args__", ()):
            model = next(item for item in model.__args__ if item is not type(None))
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]
