"""Suite files: TOML in, trial specs out."""

import functools
import itertools
import tomllib
from pathlib import Path
from typing import Annotated, Any

import tomlkit
from pydantic import Field, ValidationError, model_validator

from harness.errors import BadInput, explain, unknown
from harness.files import write_whole
from harness.frozen import Frozen, Rate, Seeds
from harness.recipe import LearningRateTry, Recipe, Training
from harness.row_name import RowLabel, RowName
from harness.spec import MultiTask, Profile, TrialSpec, Workload
from harness.suite_method import SuiteMethod

SHIPPED = Path(__file__).resolve().parent.parent / "suites"


class Choice(Frozen):
    """A learning rate that was chosen for one row of one question, and how.

    Attributes:
        learning_rate: the choice.
        tries: what it was chosen from.
    """

    learning_rate: Rate
    tries: Annotated[tuple[LearningRateTry, ...], Field(strict=False)] = ()


class Question(Frozen):
    """One workload with its recipe, among several of a suite.

    Attributes:
        workload: keys that replace the suite's.
        training: keys that replace the suite's.
        to_try: learning rates that ``bsrbench tune`` tries for every row, instead of the rows' own.
        chosen: what it found, by the rows' labels, in which the axes of the suite's workload go
            without saying.
    """

    workload: dict[str, Any] = {}
    training: dict[str, Any] = {}
    to_try: Annotated[tuple[Rate, ...], Field(strict=False)] = ()
    chosen: dict[str, Choice] = {}


class Suite(Frozen):
    """What to compare.

    Attributes:
        description: one sentence for the report.
        seeds: training seeds, each once; the profile is taken once, with the first.
        workload: what every method is given.
        vary: keys of the workload with several values each; every combination is a question of
            its own, with its own comparison.
        questions: other workloads with recipes of their own; none is the one above.
        training: how to train; its learning rate serves rows without their own. ``None`` only
            profiles.
        profile: how to time; ``None`` only trains.
        methods: the rows.
    """

    description: str = ""
    seeds: Seeds
    workload: Workload
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    questions: Annotated[tuple[Question, ...], Field(strict=False, min_length=1)] = (Question(),)
    training: Recipe | None = None
    profile: Profile | None = None
    methods: Annotated[tuple[SuiteMethod, ...], Field(strict=False, min_length=1)]

    @model_validator(mode="after")
    def _choices_have_rows(self) -> "Suite":
        rows = {row.name(self.workload) for row in self.methods}
        for question in self.questions:
            strange = [key for key in question.chosen if self._meant(key) not in rows]
            if strange:
                raise ValueError(f"chosen names {', '.join(strange)}, and there is no such row")
        return self

    def _meant(self, label: str) -> RowName:
        """Return the row that is meant by a label in ``chosen``."""
        return _parsed(label).name(self.workload.axis_values())

    @model_validator(mode="after")
    def _every_row_gets_as_many_tries(self) -> "Suite":
        for what in ("to_try", "tries"):
            counts = {row.method: len(getattr(row, what)) for row in self.methods}
            if len(set(counts.values())) > 1:
                listed = ", ".join(f"{name} {count}" for name, count in counts.items())
                raise ValueError(f"every method gets the same number of {what}, got {listed}")
        return self

    def workloads(self, question: Question) -> list[Workload]:
        """Return a question's workload, or every combination of what varies."""
        combinations = itertools.product(*self.vary.values())
        fixed = self.workload.model_dump() | question.workload
        return [
            Workload(**fixed | dict(zip(self.vary, values, strict=True))) for values in combinations
        ]

    def trials(self) -> list[TrialSpec]:
        """Return, for each workload, a profile trial a method and a training trial a seed.

        Where a row overrides what varies, or questions differ in training alone, several workloads
        ask for the same trial: it is one.
        """
        found = [
            trial
            for question in self.questions
            for workload in self.workloads(question)
            for trial in self._trials(question, workload)
        ]
        return list({trial.trial_id(): trial for trial in found}.values())

    def _trials(self, question: Question, workload: Workload) -> list[TrialSpec]:
        profiles = [self._profile_trial(row, workload) for row in self.methods if self.profile]
        trained = [
            self._trained(row, workload, self._training(question, row), seed)
            for seed in self.seeds
            for row in self.methods
            if self.training
        ]
        return profiles + trained

    def tuning_trials(self, question: Question, row: SuiteMethod, seed: int) -> list[TrialSpec]:
        """Return a training trial for each rate to try, read on the validation split."""
        rates = question.to_try or row.to_try
        if self.training is None or not rates:
            raise BadInput("nothing to tune: a suite needs [training], and its rows to_try = [...]")
        if self.vary:
            raise BadInput("learning rates are chosen for one workload: this suite varies several")
        settings = self.recipe(question) | {"evaluate": "validation", "evaluate_every": None}
        (workload,) = self.workloads(question)
        return [
            self._trained(row, workload, Training(**settings | {"learning_rate": rate}), seed)
            for rate in rates
        ]

    def recipe(self, question: Question) -> dict[str, Any]:
        """Return the keys of a question's recipe; empty where the suite trains nothing."""
        return (self.training.model_dump() if self.training else {}) | question.training

    def _training(self, question: Question, row: SuiteMethod) -> Training:
        """Return how a row is trained: with the rate chosen for it, else the question's."""
        settings = self.recipe(question)
        key = self.chosen_key(question, row) if question.chosen else ""
        if choice := question.chosen.get(key):
            settings |= {"learning_rate": choice.learning_rate, "tries": choice.tries}
        elif row.learning_rate is not None:
            settings |= {"learning_rate": row.learning_rate, "tries": row.tries}
        return Training(**settings)

    def chosen_key(self, question: Question, row: SuiteMethod) -> str:
        """Return the key of ``chosen`` under which a row stands, or is to be put."""
        name = row.name(self.workload)
        there = (key for key in question.chosen if self._meant(key) == name)
        return next(there, str(row.label(self.workload)))

    def _profile_trial(self, row: SuiteMethod, workload: Workload) -> TrialSpec:
        return TrialSpec(
            method=row.method,
            options=row.options,
            workload=row.on(workload),
            profile=self.profile,
            seed=self.seeds[0],
        )

    def _trained(
        self, row: SuiteMethod, workload: Workload, training: Training, seed: int
    ) -> TrialSpec:
        return TrialSpec(
            method=row.method,
            options=row.options,
            workload=row.on(workload),
            training=training,
            seed=seed,
        )


_parsed = functools.lru_cache(maxsize=1024)(RowLabel.parse)


def names() -> list[str]:
    """Return the suites that ship with the program."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def find(name: str) -> Path:
    """Return the file of a suite given by name or by path.

    Raises:
        BadInput: there is no such suite or file.
    """
    if name in names():
        return SHIPPED / f"{name}.toml"
    path = Path(name)
    if path.suffix != ".toml" and not path.exists():
        raise unknown("suite", name, names())
    if not path.is_file():
        raise BadInput(
            f"no suite file {name!r}; give a name ({', '.join(names())}) or a .toml file"
        )
    return path


def read(path: Path, overrides: dict[str, Any] | None = None) -> Suite:
    """Read a suite file and put ``overrides`` (dotted key -> value) into it.

    Raises:
        BadInput: the file is not TOML, or a key or value cannot be used.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not valid TOML: {error}") from error
    for key, value in (overrides or {}).items():
        _put(data, key, value)
    try:
        suite = Suite.model_validate(data)
        suite.trials()
    except ValidationError as error:
        raise explain(error, str(path), _keys()) from error
    return suite


def _put(data: dict[str, Any], dotted: str, value: object) -> None:
    *above, last = dotted.split(".")
    for part in above:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise BadInput(f"--set {dotted}: {part!r} is not a table")
    data[last] = value


def _keys() -> set[str]:
    parts = (
        *(Suite, Question, Choice, Recipe, SuiteMethod, Workload, MultiTask, Profile),
        LearningRateTry,
    )
    return {name for part in parts for name in part.model_fields}


def best_try(tries: list[LearningRateTry]) -> float:
    """Return the learning rate that reached the highest accuracy; of equals, the smallest."""
    best = max(tries, key=lambda tried: (tried.validation_accuracy or 0.0, -tried.learning_rate))
    return best.learning_rate


def write_choices(path: Path, suite: Suite, tries: list[list[list[LearningRateTry]]]) -> None:
    """Write what was tried for every question and row, and the best, into the suite file at once.

    The file keeps its comments and its order. With one question a row keeps its own; with several
    each question keeps them under ``chosen``.
    """
    document: Any = tomlkit.parse(path.read_text(encoding="utf-8"))
    for index, of_question in enumerate(tries):
        for row, table, tried in zip(suite.methods, document["methods"], of_question, strict=True):
            if "questions" in document:
                chosen = document["questions"][index].setdefault("chosen", tomlkit.table())
                key = suite.chosen_key(suite.questions[index], row)
                table = chosen.setdefault(key, tomlkit.table())  # noqa: PLW2901 - there
            table["learning_rate"] = best_try(tried)
            listed = tomlkit.array()
            for one in tried:
                entry = tomlkit.inline_table()
                entry.update(one.model_dump(exclude_none=True))
                listed.append(entry)
            table["tries"] = listed.multiline(multiline=True)
    write_whole(path, tomlkit.dumps(document))
