"""A suite: what it compares, and its trials."""

import functools
import itertools
import math
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field, model_validator

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec import same_training, suite_contradictions
from bsrbench.harness.spec.frozen_data import Frozen, Seeds
from bsrbench.harness.spec.recipe import Recipe, Training
from bsrbench.harness.spec.row_name import RowLabel, RowName
from bsrbench.harness.spec.suite_goal import Goal
from bsrbench.harness.spec.suite_method import SuiteMethod
from bsrbench.harness.spec.suite_question import Question
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.spec.workload_axes import AxisValue

MOST_TRIALS = 10_000
HUGE = 10**12


class Suite(Frozen):
    """The methods to compare, and the workloads on which to compare them.

    Attributes:
        description: one sentence for the report.
        seeds: training seeds, each once; the profile is measured once, with the first seed.
        workload: the workload of every method.
        vary: keys of the workload with several values each; every combination is a separate
            question with its own comparison.
        questions: several workloads with their own recipes; by default, the one above.
        training: the recipe; its learning rate is used for rows without their own. ``None``
            trains nothing.
        profile: how to time; ``None`` profiles nothing.
        methods: the rows.
        goals: bounds on ratios of rows; they do not affect the trials.
    """

    description: str = ""
    seeds: Seeds
    workload: Workload
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    questions: Annotated[tuple[Question, ...], Field(strict=False, min_length=1)] = (Question(),)
    training: Recipe | None = None
    profile: Profile | None = None
    methods: Annotated[tuple[SuiteMethod, ...], Field(strict=False, min_length=1)]
    goals: Annotated[tuple[Goal, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _can_be_run(self) -> "Suite":
        """Refuse a suite with too many trials, before they are created."""
        rows, seeds = len(self.methods), len(self.seeds)
        workloads = len(self.questions) * math.prod(map(len, self.vary.values()))
        trials = workloads * rows * max(1, bool(self.profile) + bool(self.training) * seeds)
        own = sum(len(row.to_try) for row in self.methods)
        tries = sum(rows * len(question.to_try) or own for question in self.questions)
        for count, what in ((trials, "trials"), (tries, "learning rates to try")):
            if count > MOST_TRIALS:
                raise ValueError(
                    f"the suite has {_in_digits(count)} {what} ({rows:,} methods, {seeds:,} "
                    f"seeds, {_in_digits(workloads)} workloads), expected at most "
                    f"{MOST_TRIALS:,}: split it into several suites"
                )
        if long := [question for question in self.questions if len(question.chosen) > rows]:
            raise ValueError(
                f"chosen names {len(long[0].chosen):,} rows, but there are {rows:,} methods: "
                "expected each row at most once"
            )
        return self

    @model_validator(mode="after")
    def _choices_have_rows(self) -> "Suite":
        rows = {row.name(self.workload) for row in self.methods}
        for question in self.questions:
            for key, labels in (("chosen", question.chosen), ("rows", question.rows)):
                meant = self._meant(labels)
                if strange := [label for name, label in meant.items() if name not in rows]:
                    raise ValueError(f"{key} names {', '.join(strange)}, but there is no such row")
        return self

    @model_validator(mode="after")
    def _goals_have_rows(self) -> "Suite":
        rows = {row.name(self.workload) for row in self.methods}
        meant = self._meant([label for goal in self.goals for label in (goal.row, goal.to)])
        if strange := [label for name, label in meant.items() if name not in rows]:
            raise ValueError(f"goals name {', '.join(strange)}, but there is no such row")
        return self

    def _meant(self, labels: Iterable[str]) -> dict[RowName, str]:
        """Return row -> label, for labels that leave out the axes of the suite's workload."""
        return _rows_meant(tuple(labels), tuple(self.workload.axis_values().items()))

    def rows(self, question: Question) -> list[SuiteMethod]:
        """Return the rows that answer a question."""
        meant = self._meant(question.rows)
        return [row for row in self.methods if not meant or row.name(self.workload) in meant]

    def trained_rows(self, question: Question) -> list[SuiteMethod]:
        """Return the rows of a question that have a training of their own."""
        return [row for row in self.rows(question) if row.trains_as is None]

    @model_validator(mode="after")
    def _same_trainings_exist(self) -> "Suite":
        labels = list(dict.fromkeys(row.trains_as for row in self.methods if row.trains_as))
        same_training.require_both_parts(
            labels, trains=self.training is not None, profiles=self.profile is not None
        )
        by_name = {row.name(self.workload): row for row in self.methods}
        for label in labels:
            reference = by_name.get(next(iter(self._meant([label]))))
            sharing = [row for row in self.methods if row.trains_as == label]
            same_training.require_reference(label, reference, sharing, self.workload)
            for number, question in enumerate(self.questions, 1):
                same_training.require_reference_answers(
                    label, number, self.rows(question), reference
                )
        return self

    @model_validator(mode="after")
    def _every_row_gets_as_many_tries(self) -> "Suite":
        rows = [(str(row.label(self.workload)), row) for row in self.methods]
        suite_contradictions.require_equal_tries([pair for pair in rows if not pair[1].trains_as])
        for question in self.questions:
            keyed = [(self.chosen_key(question, row), row) for row in self.trained_rows(question)]
            suite_contradictions.require_equal_choices(keyed, question)
        return self

    def workloads(self, question: Question) -> list[Workload]:
        """Return the workloads of a question: one for each combination of the varied values."""
        combinations = itertools.product(*self.vary.values())
        fixed = self.workload.model_dump() | question.workload
        return [
            Workload(**fixed | dict(zip(self.vary, values, strict=True))) for values in combinations
        ]

    def trials(self) -> list[TrialSpec]:
        """Return, for each workload, one profile trial per row and one training trial per seed.

        If a row overrides a varied key, or if questions differ only in training, several workloads
        give the same trial; it is returned once.
        """
        trials = [
            trial
            for question in self.questions
            for workload in self.workloads(question)
            for trial in self._trials(question, workload)
        ]
        return list({trial.trial_id(): trial for trial in trials}.values())

    def _trials(self, question: Question, workload: Workload) -> list[TrialSpec]:
        rows = self.rows(question)
        profiles = [self._profile_trial(row, workload) for row in rows if self.profile]
        trained = [
            self._trained(row, workload, self._training(question, row), seed)
            for seed in self.seeds
            for row in self.trained_rows(question)
            if self.training
        ]
        return profiles + trained

    def tuning_trials(self, question: Question, row: SuiteMethod, seed: int) -> list[TrialSpec]:
        """Return one training trial per learning rate to try, evaluated on the validation split."""
        rates = question.to_try or row.to_try
        if self.training is None or not rates:
            raise BadInput("nothing to tune: a suite needs [training], and its rows to_try = [...]")
        if self.vary:
            raise BadInput(
                "a suite with [vary] cannot be tuned, because learning rates are chosen for one "
                "workload: use a suite without [vary]"
            )
        settings = self.recipe(question) | {"evaluate": "validation", "evaluate_every": None}
        label = str(row.label(self.workload))
        suite_contradictions.require_rates_above(settings["final_learning_rate"], rates, label)
        (workload,) = self.workloads(question)
        return [
            self._trained(row, workload, Training(**settings | {"learning_rate": rate}), seed)
            for rate in rates
        ]

    def recipe(self, question: Question) -> dict[str, Any]:
        """Return the keys of a question's recipe; empty if the suite trains nothing."""
        return (self.training.model_dump() if self.training else {}) | question.training

    def _training(self, question: Question, row: SuiteMethod) -> Training:
        """Return the training of a row, with the rate chosen for it, or else the question's."""
        settings = self.recipe(question)
        key = self.chosen_key(question, row) if question.chosen else ""
        if choice := question.chosen.get(key):
            settings |= {"learning_rate": choice.learning_rate, "tries": choice.tries}
        elif row.learning_rate is not None:
            settings |= {"learning_rate": row.learning_rate, "tries": row.tries}
        return Training(**settings)

    def chosen_key(self, question: Question, row: SuiteMethod) -> str:
        """Return the key of a row in ``chosen``; for a new row, its label."""
        key = self._meant(question.chosen).get(row.name(self.workload))
        return str(row.label(self.workload)) if key is None else key

    def _profile_trial(self, row: SuiteMethod, workload: Workload) -> TrialSpec:
        profile = self.profile
        if profile and row.trains_as:
            profile = Profile(**profile.model_dump() | {"trains_as": row.trains_as})
        return TrialSpec(
            method=row.method,
            options=row.options,
            workload=row.on(workload),
            profile=profile,
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
    return f"{count:,}" if count < HUGE else f"more than {HUGE:,}"


@functools.lru_cache(maxsize=64)  # called for every row and seed, possibly thousands of times
def _rows_meant(
    labels: tuple[str, ...], axes: tuple[tuple[str, AxisValue], ...]
) -> dict[RowName, str]:
    """Return row -> its first label, for labels that leave out the given axes."""
    rows: dict[RowName, str] = {}
    for label in labels:
        rows.setdefault(RowLabel.parse(label).name(dict(axes)), label)
    return rows
