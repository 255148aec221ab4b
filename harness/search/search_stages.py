"""The stages of a search: short trainings, neighbours, full trainings, measurements, all seeds.

Memory and FLOPs of every candidate are predicted exactly and quickly before the search. Accuracy
is not known, so only settings on the Pareto front of memory, FLOPs and accuracy are trained
further. This is successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943) with a Pareto
front instead of the better half, and with one generation of neighbours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.records.trial_record import Status, TrialRecord, Value
from bsrbench.harness.search.pareto_front import front
from bsrbench.harness.search.search_question import (
    TUNING_SEED,
    Do,
    SearchQuestion,
    accuracy_of,
    best_of,
    training_of,
)
from bsrbench.harness.search.search_space import PUBLISHED, Candidate, Space, spread_over
from bsrbench.harness.spec.recipe import LearningRateTry, Recipe

Tries = dict[int, tuple[LearningRateTry, ...]]


@dataclass(frozen=True)
class TriedSettings:
    """All settings that a search has tried.

    Attributes:
        short: setting -> the accuracies of its learning rates in short trainings.
        whole: setting -> the accuracies of its learning rates in full trainings.
        rows: the rows that were measured.
        profiles: the profile records of these rows.
        trained: row id -> the keys of its training records, one per seed.
    """

    short: Tries
    whole: Tries
    rows: tuple[Candidate, ...]
    profiles: tuple[TrialRecord, ...]
    trained: dict[str, tuple[str, ...]]


class Search:
    """Runs the stages of a search; every trial is stored, so a search can be resumed.

    Args:
        space: the candidates.
        costs: row id -> predicted cost.
        goal: the question of the search.
        do: runs the trials that have no record, and returns the records of all trials.
        tell: called with a line that says what comes next.
    """

    def __init__(
        self,
        space: Space,
        costs: dict[str, StepCost],
        goal: SearchQuestion,
        do: Do,
        tell: Callable[[str], object],
    ) -> None:
        self._space, self._costs, self._goal = space, costs, goal
        self._do, self._tell = do, tell
        self._short: Tries = {}
        self._whole: Tries = {}

    def run(self) -> TriedSettings:
        """Run the search, reusing stored trials, and return all tried settings."""
        first = self._first()
        self._tell(f"training {len(first)} settings for a quarter of the steps")
        self._short |= self._tune(first, self._goal.short())
        near = self._neighbours()
        self._tell(
            f"training {len(near)} neighbours of the best settings for a quarter of the steps"
        )
        self._short |= self._tune(near, self._goal.short())
        kept = self._thinned(self._best(self._short), self._short, self._goal.whole)
        self._tell(f"training {len(kept)} settings for all steps")
        self._whole = self._tune([PUBLISHED, *kept], self._goal.recipe)
        last = self._thinned(self._best(self._whole), self._whole, self._goal.finalists)
        rows = [self._space.plain(PUBLISHED), *self._fitting_candidates(last)]
        self._tell(f"measuring {len(rows)} rows, in turns")
        profiles = self._do([row.spec for row in rows])
        chosen = self._worth_training(rows, profiles)
        self._tell(f"training {len(chosen)} rows with {len(self._goal.seeds)} seeds")
        return TriedSettings(
            self._short, self._whole, tuple(rows), tuple(profiles), self._trained(chosen)
        )

    def _first(self) -> list[int]:
        """Return the first settings, spread over the FLOPs of the settings that fit."""
        fitting = sorted(
            {c.setting for c in self._space.candidates if self._goal.fits(self._cost(c))}
            - {PUBLISHED}
        )
        work = [self._plain_cost(setting).step_flop for setting in fitting]
        return [
            PUBLISHED,
            *spread_over(fitting, work, self._goal.first, self._goal.seed),
        ]

    def _neighbours(self) -> list[int]:
        """Return neighbours of the best settings: one neighbour of each, then the next of each."""
        fitting = {c.setting for c in self._space.candidates if self._goal.fits(self._cost(c))}
        queues = [
            [near for near in self._space.neighbours(best) if near in fitting]
            for best in self._best(self._short)
        ]
        chosen: dict[int, None] = {}
        for turn in range(max(map(len, queues), default=0)):
            for queue in queues:
                # Take neighbours from both ends in turn, so that not only the first option varies.
                if turn < len(queue):
                    place = turn // 2 if turn % 2 == 0 else -1 - turn // 2
                    chosen.setdefault(queue[place])
        return [near for near in chosen if near not in self._short][: self._goal.first]

    def _tune(self, settings: Sequence[int], recipe: Recipe) -> Tries:
        """Train each setting with every learning rate, and return the accuracies."""
        plain = {number: self._space.plain(number).spec for number in settings}
        trials = {
            (number, rate): training_of(spec, recipe, rate, TUNING_SEED)
            for number, spec in plain.items()
            for rate in self._goal.rates_for(spec)
        }
        records = self._do(list(trials.values()))
        reached = {record.spec.trial_id(): accuracy_of(record) for record in records}
        return {
            number: tuple(
                LearningRateTry(
                    learning_rate=rate,
                    validation_accuracy=reached.get(trials[number, rate].trial_id()),
                )
                for rate in self._goal.rates_for(spec)
            )
            for number, spec in plain.items()
        }

    def _best(self, tried: Tries) -> list[int]:
        """Return the settings on the Pareto front of memory, FLOPs and accuracy, best first."""
        reached = {number: best_of(tries) for number, tries in tried.items()}
        numbers = [number for number, best in reached.items() if best is not None]
        points = []
        for number in numbers:
            cost, best = self._plain_cost(number), reached[number]
            accuracy = 0.0 if best is None else best.validation_accuracy or 0.0
            points.append((-accuracy, float(cost.peak_bytes), float(cost.step_flop)))
        kept = sorted((points[place], numbers[place]) for place in front(points))
        return [number for _, number in kept]

    def _thinned(self, best: list[int], tried: Tries, most: int) -> list[int]:
        """Return at most ``most`` settings: cheap ones without loss of accuracy, and accurate ones.

        A setting has no loss if it is at least as accurate as the published setting.
        """
        published = best_of(tried[PUBLISHED])
        target = 0.0 if published is None else published.validation_accuracy or 0.0
        others = [number for number in best if number != PUBLISHED]

        def shortfall(number: int) -> tuple[bool, float]:
            reached = best_of(tried[number])
            accuracy = 0.0 if reached is None else reached.validation_accuracy or 0.0
            own, base = self._plain_cost(number), self._plain_cost(PUBLISHED)
            cost = own.peak_bytes / base.peak_bytes + own.step_flop / base.step_flop
            return accuracy < target, cost if accuracy >= target else -accuracy

        cheapest = sorted(others, key=shortfall)
        # One half are the cheapest without loss of accuracy, one half are the most accurate.
        chosen = dict.fromkeys([*cheapest[: (most + 1) // 2], *others[: most // 2], *cheapest])
        return list(chosen)[:most]

    def _fitting_candidates(self, settings: Sequence[int]) -> list[Candidate]:
        """Return the candidates of some settings that fit in the memory budget."""
        return [
            candidate
            for candidate in self._space.candidates
            if candidate.setting in settings and self._goal.fits(self._cost(candidate))
        ]

    def _worth_training(
        self, rows: Sequence[Candidate], profiles: Sequence[TrialRecord]
    ) -> list[Candidate]:
        """Return the published row, and the other rows on the Pareto front of the measurements."""
        measured = []
        for row, record in zip(rows[1:], profiles[1:], strict=True):
            peak, time = record.measurements.get("peak_counted_bytes"), _time(record, profiles[0])
            if record.outcome.status is not Status.COMPLETED or time is None:
                continue
            allocated = record.measurements.get("peak_allocated_bytes") or peak
            if isinstance(peak, int) and int(str(allocated)) <= self._goal.memory_bytes:
                best = best_of(self._whole[row.setting])
                accuracy = 0.0 if best is None else best.validation_accuracy or 0.0
                measured.append((row, (-accuracy, float(peak), time)))
        kept = front([point for _, point in measured])
        return [rows[0], *(measured[place][0] for place in kept)][: self._goal.rows + 1]

    def _trained(self, chosen: Sequence[Candidate]) -> dict[str, tuple[str, ...]]:
        """Train rows with every seed; return row id -> keys of the records."""
        trials = {}
        for row in chosen:
            best = best_of(self._whole[row.setting])
            if best is not None:
                trials[row.row_id] = [
                    training_of(row.spec, self._goal.recipe, best.learning_rate, seed)
                    for seed in self._goal.seeds
                ]
        records = self._do([trial for own in trials.values() for trial in own])
        keys = {record.spec.trial_id(): record.key for record in records}
        return {row: tuple(keys[trial.trial_id()] for trial in own) for row, own in trials.items()}

    def _plain_cost(self, setting: int) -> StepCost:
        return self._cost(self._space.plain(setting))

    def _cost(self, candidate: Candidate) -> StepCost:
        return self._costs[candidate.row_id]


def _time(record: TrialRecord, published: TrialRecord) -> float | None:
    """Return a row's time divided by the time of the published row in the same round group."""
    row_times = record.measurements.get("step_seconds")
    published_times: Value = record.beside.get(published.key, {}).get("step_seconds")
    if record.circumstances.round_group == published.circumstances.round_group:
        published_times = published.measurements.get("step_seconds")
    if not isinstance(row_times, list) or not isinstance(published_times, list):
        return None
    return median(row_times) / median(published_times)
