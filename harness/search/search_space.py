"""The candidates of a search: a method's settings, companions and micro-batches."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Method
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload

PUBLISHED = 0  # the number of the published setting
OPTIMIZER = "optimizer"  # its name among the options of a setting
PARTS_OF_A_BATCH = (1, 4)  # the whole batch, and micro-batches of a quarter


@dataclass(frozen=True)
class Candidate:
    """One row that the search considers.

    Attributes:
        setting: index of its setting in the space.
        companion: the method that is composed with it; empty if there is none.
        spec: the row: method, options, workload.
    """

    setting: int
    companion: str
    spec: TrialSpec

    @cached_property
    def row_id(self) -> str:
        """The id of its row; stored, because computing it is slow."""
        return self.spec.row_id()

    def is_plain(self) -> bool:
        """Return whether it has no companion, and no micro-batches."""
        return not self.companion and self.spec.workload.micro_batch is None


@dataclass(frozen=True)
class Space:
    """All settings and candidates of a search.

    Attributes:
        method: the method that is searched.
        settings: the values of its options in each setting, and the optimizer if there are several;
            the first is the published setting.
        candidates: every setting with every companion and micro-batch.
    """

    method: str
    settings: tuple[dict[str, Any], ...]
    candidates: tuple[Candidate, ...]

    def plain(self, setting: int) -> Candidate:
        """Return the candidate of a setting that has no companion and no micro-batches."""
        return self._plain[setting]

    @cached_property
    def _plain(self) -> dict[int, Candidate]:
        return {c.setting: c for c in self.candidates if c.is_plain()}

    def published(self, specs: Sequence[TrialSpec]) -> list[TrialSpec]:
        """Return the spec of the published setting, with which every other row is compared."""
        return [spec for spec in specs if spec.row_id() == self.plain(PUBLISHED).row_id]

    def neighbours(self, setting: int) -> list[int]:
        """Return the settings that differ from the given one in exactly one option."""
        own = self.settings[setting]
        return [
            number
            for number, options in enumerate(self.settings)
            if sum(own[name] != options[name] for name in own) == 1
        ]


def make_space(
    name: str,
    method: Method,
    workloads: Sequence[Workload],
    depth: int,
    companions: Iterable[str],
    profile: Profile,
) -> Space:
    """Return the space of a method on a workload, with one or several optimizers.

    Args:
        name: name of the method.
        method: the method with its default options, which are the published setting.
        workloads: the workload of every candidate, once for each optimizer; the first has the
            optimizer of the published setting. The micro-batches are replaced.
        depth: number of blocks of the model.
        companions: methods that are composed with it; the method alone is always a candidate.
        profile: how candidates are measured.

    Raises:
        BadInput: there is nothing to choose from, or the method has an option named optimizer.
    """
    variants = method.variants(depth)
    if not variants and not workloads[1:]:
        raise BadInput(
            f"{name!r} has no variants, so there is nothing to search: use a method that defines "
            "variants(depth), such as 'bsr', or name several optimizers with --optimizers"
        )
    by_words = {workload.optimizer_in_words(): workload for workload in workloads}
    settings = _settings(name, method, variants, list(by_words))
    published = settings[PUBLISHED]
    candidates = []
    for number, setting in enumerate(settings):
        changed = {key: value for key, value in setting.items() if value != published[key]}
        on = workloads[0]
        if workloads[1:]:
            on = by_words[setting[OPTIMIZER]]
            changed.pop(OPTIMIZER, None)  # an option of the workload, not of the method
        candidates += [
            Candidate(number, companion, _spec(name, companion, changed, micro, on, profile))
            for companion in ("", *companions)
            for micro in micro_batches(on.batch)
        ]
    return Space(name, tuple(settings), tuple(candidates))


def _settings(
    name: str, method: Method, variants: Sequence[dict[str, Any]], optimizers: Sequence[str]
) -> list[dict[str, Any]]:
    """Return every setting; the optimizer is one of its options if there are several."""
    keys = list(dict.fromkeys(key for variant in variants for key in variant))
    if optimizers[1:] and OPTIMIZER in keys:
        raise BadInput(
            f"{name!r} varies an option named {OPTIMIZER!r}, so it cannot be searched with several "
            "optimizers: leave out --optimizers"
        )
    published = {key: _listed(getattr(method, key)) for key in keys}
    of_method = [published]
    for variant in variants:
        setting = published | {key: _listed(value) for key, value in variant.items()}
        if setting not in of_method:
            of_method.append(setting)
    if not optimizers[1:]:
        return of_method
    return [setting | {OPTIMIZER: words} for setting in of_method for words in optimizers]


def micro_batches(batch: int) -> list[int | None]:
    """Return the micro-batches to consider; ``None`` is the whole batch."""
    parts = [batch // count for count in PARTS_OF_A_BATCH if batch % count == 0]
    return [None if size == batch else size for size in parts]


def _listed(value: object) -> object:
    """Return a value in its JSON form, so that a spec equals its copy from a file."""
    return list(value) if isinstance(value, tuple) else value


def _spec(
    name: str,
    companion: str,
    options: dict[str, Any],
    micro_batch: int | None,
    workload: Workload,
    profile: Profile,
) -> TrialSpec:
    named = {name: options} if options else {}
    return TrialSpec(
        method=f"{name}+{companion}" if companion else name,
        options=named if companion else options,
        workload=workload.model_copy(update={"micro_batch": micro_batch}),
        profile=profile,
    )


def spread_over(
    numbers: Sequence[int], values: Sequence[float], count: int, seed: int
) -> list[int]:
    """Sort ``numbers`` by value, split them into ``count`` equal parts and draw one from each."""
    ordered = [number for _, number in sorted(zip(values, numbers, strict=True))]
    if len(ordered) <= count:
        return ordered
    draw = random.Random(seed)  # noqa: S311 - no secret
    edges = [round(share * len(ordered) / count) for share in range(count + 1)]
    return [draw.choice(ordered[low:high]) for low, high in pairwise(edges)]
