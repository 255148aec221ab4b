"""What a search leaves behind: what was tried, and the rows it measured."""

from typing import Any

from bsrbench.harness.spec.frozen_data import Frozen
from bsrbench.harness.spec.recipe import LearningRateTry, Recipe
from bsrbench.harness.spec.trial_spec import Workload


class TriedSetting(Frozen):
    """A setting that was trained; its accuracies are of the validation split.

    Attributes:
        options: of the method, all that are searched.
        peak_bytes: predicted counted peak on whole batches, nothing composed with it.
        step_flop: predicted FLOPs of a step.
        short_accuracy: the best of its learning rates after a short training.
        accuracy: the best of its learning rates after a whole one, if it came so far.
        learning_rate: which that was.
        tries: all of them.
    """

    options: dict[str, Any]
    peak_bytes: int
    step_flop: int
    short_accuracy: float | None
    accuracy: float | None = None
    learning_rate: float | None = None
    tries: tuple[LearningRateTry, ...] = ()


class SearchResultRow(Frozen):
    """A way to do the workload that was measured; the numbers are in its records.

    Attributes:
        setting: its place among what was tried.
        label: how reports call it.
        method: with what is composed with it.
        options: as a suite holds them.
        micro_batch: images a forward pass; ``None`` is the whole batch.
        predicted_bytes: counted peak as it was predicted.
        profile: key of the record of its profile.
        trainings: keys of its trainings' records, a seed each; none where it was not on the front.
    """

    setting: int
    label: str
    method: str
    options: dict[str, Any]
    micro_batch: int | None
    predicted_bytes: int
    profile: str
    trainings: tuple[str, ...] = ()


class SearchResult(Frozen):
    """A search and what came of it.

    Attributes:
        method: what was searched.
        workload: on which.
        training: by which recipe.
        memory_bytes: the budget, for tensors and workspaces.
        seeds: of the last trainings.
        settings: how many there are.
        candidates: settings with companions and micro-batches.
        fitting: how many of those fit by prediction.
        refused: how many could not be predicted.
        tried: settings that were trained; the first is the published one.
        rows: what was measured; the first is the published setting.
    """

    method: str
    workload: Workload
    training: Recipe
    memory_bytes: int
    seeds: tuple[int, ...]
    settings: int
    candidates: int
    fitting: int
    refused: int
    tried: tuple[TriedSetting, ...]
    rows: tuple[SearchResultRow, ...]
