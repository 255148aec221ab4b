"""The seeds with which rows were tested, and the seeds that rows have in common."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from bsrbench.reports import units
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.statistics import mean

ACCURACY = "accuracy_top1"
GROUPS_IN_SHORT, LABELS_IN_SHORT = 3, 3  # the most that one sentence lists
RUN = 3  # consecutive seeds; from this number on a range is shorter than a list

Seeds = tuple[int, ...]


def tested(row: ComparisonRow) -> Seeds:
    """Return the seeds whose training was tested, in order, without failed ones."""
    return row.tested_seeds


def are_alike(rows: Iterable[ComparisonRow]) -> bool:
    """Tell whether all tested rows were tested with the same seeds."""
    return len({seeds for row in rows if (seeds := tested(row))}) < 2  # noqa: PLR2004 - one set


def shared(rows: Iterable[ComparisonRow]) -> Seeds:
    """Return the seeds that all tested rows have in common."""
    seed_sets = [set(seeds) for row in rows if (seeds := tested(row))]
    return tuple(sorted(set.intersection(*seed_sets))) if seed_sets else ()


def most_shared(rows: Iterable[ComparisonRow]) -> int:
    """Return the largest number of seeds that two rows share; for a single row, its seeds."""
    counts = Counter(seeds for row in rows if (seeds := tested(row)))
    if sum(counts.values()) == 1:
        return len(next(iter(counts)))
    of_equals = [len(seeds) for seeds, rows_ in counts.items() if rows_ > 1]
    of_others = [len(set(seeds) & set(more_seeds)) for seeds, more_seeds in combinations(counts, 2)]
    return max([*of_equals, *of_others], default=0)


def mean_accuracy(row: ComparisonRow, seeds: Sequence[int]) -> float | None:
    """Return the mean test accuracy over some of a row's seeds; ``None`` without seeds."""
    read = row.by_seed(ACCURACY)
    return mean([read[seed] for seed in seeds]) if seeds else None


def in_words(seeds: Sequence[int]) -> str:
    """Return seeds in order as ``0 to 5``, ``0 and 1`` or ``0 to 3, 7 and 9``."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    parts = [
        part
        for run in runs
        for part in ([f"{run[0]} to {run[-1]}"] if len(run) >= RUN else map(str, run))
    ]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts) or "none"


def named(seeds: Sequence[int]) -> str:
    """Return seeds with a noun: ``seeds 0 to 5``, ``seed 3``, ``no seed``."""
    word = "seed" if len(seeds) == 1 else "seeds"
    return f"{word} {in_words(seeds)}" if seeds else "no seed"


def counted(seeds: Sequence[int]) -> str:
    """Return the number of seeds and their list: ``6 (0 to 5)``."""
    return f"{len(seeds)} ({in_words(seeds)})" if seeds else units.NOTHING


def behind(row: ComparisonRow, *, same_seeds: bool) -> str:
    """Return the text after a row's name in a legend: its seeds, if rows have different seeds."""
    return "" if same_seeds else f" ({named(tested(row))})"


def groups(rows: Iterable[ComparisonRow]) -> dict[Seeds, list[str]]:
    """Return the labels of trained rows grouped by their tested seeds, most seeds first."""
    labels_by_seeds: dict[Seeds, list[str]] = {}
    for row in rows:
        if row.trained():
            labels_by_seeds.setdefault(tested(row), []).append(row.label)
    return dict(sorted(labels_by_seeds.items(), key=lambda group: (-len(group[0]), group[0])))


def of_each(rows: Iterable[ComparisonRow]) -> list[str]:
    """Return one line per set of seeds with its rows; empty if all rows have the same seeds."""
    labels_by_seeds = groups(rows)
    if len(labels_by_seeds) < 2:  # noqa: PLR2004 - all rows have the same seeds
        return []
    return [
        f"tested with {named(seeds)}: {', '.join(labels)}"
        for seeds, labels in labels_by_seeds.items()
    ]


def in_short(rows: Iterable[ComparisonRow]) -> str:
    """Return a short text that says which rows were tested with which seeds."""
    seed_groups = list(groups(rows).items())
    parts = [
        f"{', '.join(labels[:LABELS_IN_SHORT])}{_rest(len(labels) - LABELS_IN_SHORT)}: "
        f"{named(seeds)}"
        for seeds, labels in seed_groups[:GROUPS_IN_SHORT]
    ]
    left = sum(len(labels) for _, labels in seed_groups[GROUPS_IN_SHORT:])
    return "; ".join(
        [*parts, *([f"{left} more {'row' if left == 1 else 'rows'}: other seeds"] if left else [])]
    )


def _rest(left: int) -> str:
    return f" and {left} more" if left > 0 else ""


@dataclass(frozen=True)
class Pairing:
    """The seeds of two rows whose accuracies are compared.

    Attributes:
        new: seeds with which the new row was tested.
        baseline: seeds with which the baseline row was tested.
    """

    new: Seeds
    baseline: Seeds

    @classmethod
    def of(cls, new: ComparisonRow, baseline: ComparisonRow) -> "Pairing":
        """Return the seeds of two rows."""
        return cls(tested(new), tested(baseline))

    @property
    def both(self) -> Seeds:
        """Return the seeds that both rows were tested with; only these decide the verdict."""
        return tuple(sorted(set(self.new) & set(self.baseline)))

    def is_unequal(self) -> bool:
        """Tell whether both rows were tested, but not with the same seeds."""
        return bool(self.new and self.baseline) and self.new != self.baseline

    def over(self) -> str:
        """Return a text with the seeds compared; empty if both rows have the same seeds."""
        if not self.is_unequal() or not self.both:
            return ""
        return f"over the {units.seeds(len(self.both))} that both have ({in_words(self.both)})"


def who_had_which(new: ComparisonRow, baseline: ComparisonRow) -> list[str]:
    """Return a line with the seeds of two rows; empty if they have the same seeds."""
    seeds = Pairing.of(new, baseline)
    if not seeds.is_unequal():
        return []
    own = [
        f"{row.label} was tested with {named(of_row)} (mean "
        f"{units.share(mean_accuracy(row, of_row))})"
        for row, of_row in ((new, seeds.new), (baseline, seeds.baseline))
    ]
    how = f"compared {seeds.over()}" if seeds.both else "not compared, because no seed is in both"
    return [f"accuracies are {how}: {'; '.join(own)}"]
