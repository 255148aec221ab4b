"""What a suite compares, and the trials that answer it."""

import functools
import itertools
import math
from typing import Annotated, Any

from pydantic import Field, model_validator

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec import suite_contradictions
from bsrbench.harness.spec.frozen_data import Frozen, Seeds
from bsrbench.harness.spec.recipe import Recipe, Training
from bsrbench.harness.spec.row_name import RowLabel, RowName
from bsrbench.harness.spec.suite_method import SuiteMethod
from bsrbench.harness.spec.suite_question import Question
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.spec.workload_axes import AxisValue

MOST_TRIALS = 10_000
HUGE = 10**12


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
    def _can_be_run(self) -> "Suite":
        """Refuse more trials than anybody runs, before they are made: that would take hours."""
        rows, seeds = len(self.methods), len(self.seeds)
        workloads = len(self.questions) * math.prod(map(len, self.vary.values()))
        trials = workloads * rows * max(1, bool(self.profile) + bool(self.training) * seeds)
        own = sum(len(row.to_try) for row in self.methods)
        tries = sum(rows * len(question.to_try) or own for question in self.questions)
        for count, what in ((trials, "trials"), (tries, "learning rates to try")):
            if count > MOST_TRIALS:
                raise ValueError(
                    f"the suite asks for {_in_digits(count)} {what} ({rows:,} methods, {seeds:,} "
                    f"seeds, {_in_digits(workloads)} workloads), expected {MOST_TRIALS:,} at most: "
                    "make several suites of it"
                )
        if long := [question for question in self.questions if len(question.chosen) > rows]:
            raise ValueError(
                f"chosen names {len(long[0].chosen):,} rows, and there are {rows:,} methods: "
                "expected each once"
            )
        return self

    @model_validator(mode="after")
    def _choices_have_rows(self) -> "Suite":
        rows = {row.name(self.workload) for row in self.methods}
        for question in self.questions:
            meant = self._keys(question)
            strange = [key for name, key in meant.items() if name not in rows]
            if strange:
                raise ValueError(f"chosen names {', '.join(strange)}, and there is no such row")
        return self

    def _keys(self, question: Question) -> dict[RowName, str]:
        """Return the rows that are meant by the labels in ``chosen``, and these."""
        return _rows_meant(tuple(question.chosen), tuple(self.workload.axis_values().items()))

    @model_validator(mode="after")
    def _every_row_gets_as_many_tries(self) -> "Suite":
        rows = [(str(row.label(self.workload)), row) for row in self.methods]
        suite_contradictions.require_equal_tries(rows)
        for question in self.questions:
            keyed = [(self.chosen_key(question, row), row) for row in self.methods]
            suite_contradictions.require_equal_choices(keyed, question)
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
        label = str(row.label(self.workload))
        suite_contradictions.require_rates_above(settings["final_learning_rate"], rates, label)
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
        key = self._keys(question).get(row.name(self.workload))
        return str(row.label(self.workload)) if key is None else key

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


def _in_digits(count: int) -> str:
    return f"{count:,}" if count < HUGE else "more than a million million"


@functools.lru_cache(maxsize=64)  # asked for every row and seed, and there may be thousands
def _rows_meant(
    labels: tuple[str, ...], axes: tuple[tuple[str, AxisValue], ...]
) -> dict[RowName, str]:
    """Return the rows that labels mean where axes go without saying, each with its first label."""
    rows: dict[RowName, str] = {}
    for label in labels:
        rows.setdefault(RowLabel.parse(label).name(dict(axes)), label)
    return rows
