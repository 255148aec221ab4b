"""When the turns of a round group end: at the interval of the ratios, or at the budget."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from bsrbench.harness.meters.phase_clock import CONFIDENCE, settled
from bsrbench.harness.records.ratio_interval import time_ratio

INTERVAL, BUDGET = "interval", "budget"
MOST_TIMES = 100  # of the generations made, that are expected to be needed
Rounds = list[list[float]]  # seconds per step, by generation and round


@dataclass(frozen=True)
class TurnRules:
    """How long a round group is timed.

    Attributes:
        rounds: minimum number of rounds of a generation.
        generations: minimum number of generations.
        budget_seconds: time for all generations.
        within: key of each new trial -> required half width of its ratios' intervals, as a fraction
            of the ratio.
        compared_with: keys of the trials that every other one is compared with.
    """

    rounds: int
    generations: int
    budget_seconds: float
    within: Mapping[str, float]
    compared_with: tuple[str, ...] = ()

    def share_seconds(self, generation: int) -> float:
        """Return when a generation has used its share of the budget, from the beginning."""
        return self.budget_seconds * min(1.0, (generation + 1) / self.generations)


@dataclass
class TurnTimes:
    """The seconds per step of the members that have not failed, by key, generation and round."""

    rules: TurnRules
    rounds: dict[str, Rounds] = field(default_factory=dict)

    def begin_generation(self, keys: Collection[str]) -> None:
        """Begin a generation of these members; the others have failed and do not count."""
        self.rounds = {key: [*self.rounds.get(key, []), []] for key in keys}

    def add(self, key: str, seconds: float) -> None:
        """Add a member's visit of whole steps to the current generation."""
        self.rounds[key][-1].append(seconds)

    def drop(self, key: str) -> None:
        """Leave out a member that has failed."""
        self.rounds.pop(key, None)

    def generation_settled(self) -> bool:
        """Return whether the median ratio of the rounds of this generation is known well enough."""
        return all(
            settled([a / b for a, b in zip(ours[-1], theirs[-1], strict=False) if b], within)
            for ours, theirs, within in self._pairs()
        )

    def all_settled(self) -> bool:
        """Return whether every ratio over all generations is known well enough."""
        shares = self._shares_of_required()
        return all(share is not None and share <= 1 for share in shares)

    def expected_generations(self) -> int:
        """Return how many generations all ratios need, by the spread so far; 0 if not known.

        The half width of an interval falls with the square root of the number of generations.
        """
        made = max((len(rounds) for rounds in self.rounds.values()), default=0)
        shares = [share for share in self._shares_of_required() if share is not None]
        return math.ceil(made * min(max(shares, default=0.0) ** 2, MOST_TIMES))

    def _shares_of_required(self) -> list[float | None]:
        """Return the half width of each ratio's interval divided by the required one.

        It is ``None`` if there is no interval yet.
        """
        shares: list[float | None] = []
        for ours, theirs, within in self._pairs():
            numbered = dict(enumerate(ours)), dict(enumerate(theirs))
            ratio = time_ratio(*numbered, CONFIDENCE, planned=self.rules.generations)
            if ratio is None or ratio.low is None or ratio.high is None:
                shares.append(None)
                continue
            wider = max(ratio.high - ratio.centre, ratio.centre - ratio.low)
            shares.append(wider / (ratio.centre * within))
        return shares

    def _pairs(self) -> list[tuple[Rounds, Rounds, float]]:
        """Return both times of each ratio, and its required half width.

        A single member has no ratio, so its own times are used.
        """
        keys = [key for key in self.rules.compared_with if key in self.rounds]
        others = keys or list(self.rounds)[:1]
        pairs = [
            (self.rounds[key], self.rounds[other], within)
            for key, within in self.rules.within.items()
            for other in others
            if key in self.rounds and key != other
        ]
        if pairs:
            return pairs
        return [
            (rounds, [[1.0] * len(seconds) for seconds in rounds], self.rules.within[key])
            for key, rounds in self.rounds.items()
            if key in self.rules.within
        ]
