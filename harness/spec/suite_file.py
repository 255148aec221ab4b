"""Find and read suite files, and write the chosen learning rates into them."""

import os
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError

from bsrbench.harness.errors import BadInput, explain, shortened, unknown
from bsrbench.harness.files import MIB, read_text, write_whole
from bsrbench.harness.spec import suite_contradictions
from bsrbench.harness.spec.multitask import MultiTask
from bsrbench.harness.spec.optimizer_options import OptimizerOptions
from bsrbench.harness.spec.recipe import LearningRateTry, Recipe
from bsrbench.harness.spec.suite import Suite
from bsrbench.harness.spec.suite_goal import Goal
from bsrbench.harness.spec.suite_method import SuiteMethod
from bsrbench.harness.spec.suite_question import LearningRateChoice, Question
from bsrbench.harness.spec.toml_text import DEEPEST, is_deep, parse_toml
from bsrbench.harness.spec.trial_spec import Profile, Workload

MOST_BYTES = MIB  # size limit of a suite file; a thousand rows with ten tries each take half of it
SHIPPED = Path(__file__).absolute().parents[2] / "suites"


def names() -> list[str]:
    """Return the names of the suites that ship with the program."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def find(name: str) -> Path:
    """Return the file of a suite given by name or by path.

    Raises:
        BadInput: there is no such suite or file.
    """
    if name in names():
        return SHIPPED / f"{name}.toml"
    path = Path(name)
    # os.path, because pathlib raises an error if a name is too long or contains a zero byte.
    if path.suffix != ".toml" and not os.path.exists(path):  # noqa: PTH110
        raise unknown("suite", name, names())
    if not os.path.isfile(path):  # noqa: PTH113
        raise BadInput(
            f"no suite file {shortened(name)!r}; give a name ({', '.join(names())}) or a .toml file"
        )
    return path


def read(
    path: Path, overrides: dict[str, Any] | None = None, *, first_question: bool = False
) -> Suite:
    """Read a suite file and put ``overrides`` (dotted key -> value) into it.

    Args:
        path: the file.
        overrides: dotted keys and the values that replace those of the file.
        first_question: use only the first question; overrides replace its own keys, too.

    Raises:
        BadInput: the file is not TOML, or a key or value cannot be used.
    """
    text = read_text(path, MOST_BYTES)
    try:
        data = parse_toml(text)
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from error
    settings = overrides or {}
    if first_question:
        data |= _first_question(data, settings)
    for key, value in settings.items():
        _put(data, key, value)
    if is_deep(data):
        raise BadInput(f"--set: tables and lists are nested more than {DEEPEST} levels deep")
    try:
        suite = Suite.model_validate(data)
        trials = suite.trials()
    except ValidationError as error:
        raise explain(error, str(path), _keys()) from error
    try:
        suite_contradictions.require_reach(settings, suite.vary, suite.questions)
        suite_contradictions.require_effect(trials)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    return suite


def _first_question(data: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the first question without the keys that are set; empty if there is no question."""
    questions = data.get("questions")
    if not (isinstance(questions, list) and questions and isinstance(questions[0], dict)):
        return {}  # there are none, or pydantic reports the error
    first = {
        table: {name: v for name, v in value.items() if f"{table}.{name}" not in settings}
        if table in {"workload", "training"} and isinstance(value, dict)
        else value
        for table, value in questions[0].items()
    }
    return {"questions": [first]}


def _put(data: dict[str, Any], dotted: str, value: object) -> None:
    *above, last = dotted.split(".")
    for part in above:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise BadInput(f"--set {shortened(dotted)}: {shortened(part)!r} is not a table")
    data[last] = value


def _keys() -> set[str]:
    parts = (
        *(Suite, Question, LearningRateChoice, Recipe, SuiteMethod, Workload, MultiTask, Profile),
        *(LearningRateTry, Goal, OptimizerOptions),
    )
    return {name for part in parts for name in part.model_fields}


def best_try(tries: list[LearningRateTry]) -> float:
    """Return the learning rate with the highest accuracy; if several have it, the smallest."""
    best = max(tries, key=lambda tried: (tried.validation_accuracy or 0.0, -tried.learning_rate))
    return best.learning_rate


def write_choices(path: Path, suite: Suite, tries: list[list[list[LearningRateTry]]]) -> None:
    """Write the tries and the best learning rate of every question and row into the suite file.

    The file keeps its comments and its order. If the suite has no questions, the values go into
    the row; otherwise they go into ``chosen`` of the question.
    """
    document: Any = tomlkit.parse(read_text(path, MOST_BYTES))
    tables = {id(row): of for row, of in zip(suite.methods, document["methods"], strict=True)}
    for index, of_question in enumerate(tries):
        for row, tried in zip(suite.trained_rows(suite.questions[index]), of_question, strict=True):
            table = tables[id(row)]
            if "questions" in document:
                chosen = document["questions"][index].setdefault("chosen", tomlkit.table())
                key = suite.chosen_key(suite.questions[index], row)
                table = chosen.setdefault(key, tomlkit.table())
            table["learning_rate"] = best_try(tried)
            listed = tomlkit.array()
            for rate_try in tried:
                entry = tomlkit.inline_table()
                entry.update(rate_try.model_dump(exclude_none=True))
                listed.append(entry)
            table["tries"] = listed.multiline(multiline=True)
    write_whole(path, tomlkit.dumps(document))
