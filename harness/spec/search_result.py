"""The result of a search: the settings that it trained, and the rows that it measured."""

from typing import Any

from bsrbench.harness.spec.frozen_data import Frozen
from bsrbench.harness.spec.recipe import LearningRateTry, Recipe
from bsrbench.harness.spec.trial_spec import Workload


class TriedSetting(Frozen):
    """A setting that was trained; its accuracies are on the validation split.

    Attributes:
        options: the values of all searched options of the method, and the optimizer if several
            were searched.
        peak_bytes: predicted counted peak on whole batches, without other methods.
        step_flop: predicted FLOPs of a step.
        short_accuracy: best accuracy over all learning rates after a short training.
        accuracy: best accuracy over all learning rates after a full training, if there was one.
        learning_rate: the learning rate with this accuracy.
        tries: all learning rates and accuracies of the full trainings.
    """

    options: dict[str, Any]
    peak_bytes: int
    step_flop: int
    short_accuracy: float | None
    accuracy: float | None = None
    learning_rate: float | None = None
    tries: tuple[LearningRateTry, ...] = ()


class SearchResultRow(Frozen):
    """A row that was measured; the numbers are in its records.

    Attributes:
        setting: index of its setting in ``SearchResult.tried``.
        label: its label in reports.
        method: the method, with the methods composed with it.
        options: the options, as in a suite.
        micro_batch: images per forward pass; ``None`` is the whole batch.
        predicted_bytes: predicted counted peak.
        profile: key of its profile record.
        trainings: keys of its training records, one per seed; empty if not on the Pareto front.
        optimizer: its optimizer as in labels; empty if it is that of the workload.
    """

    setting: int
    label: str
    method: str
    options: dict[str, Any]
    micro_batch: int | None
    predicted_bytes: int
    profile: str
    trainings: tuple[str, ...] = ()
    optimizer: str = ""


class SearchResult(Frozen):
    """A search and its result.

    Attributes:
        method: the method whose settings were searched.
        workload: the workload.
        training: the recipe.
        memory_bytes: the budget for tensors and workspaces.
        seeds: seeds of the last trainings.
        settings: number of settings.
        candidates: number of settings, times the companions and micro-batches.
        fitting: number of candidates that are predicted to fit.
        refused: number of candidates that could not be predicted.
        tried: settings that were trained; the first is the published setting.
        rows: rows that were measured; the first is the published setting.
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
