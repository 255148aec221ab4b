"""Predict how long a run will take and how much it will write."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bsrbench.harness.launch.forecasting.forecast_inputs import COMPILING, ForecastInputs
from bsrbench.harness.launch.forecasting.work_left import Key, Piece, WorkLeft
from bsrbench.harness.launch.planning.run_plan import Group, PlannedTrial
from bsrbench.harness.launch.round_group import CPU_ROUNDS
from bsrbench.harness.profiler.clock_pass import kinds_after_rounds, kinds_in_round
from bsrbench.harness.profiler.cpu_pass import LEAST_WARM_UP_STEPS, VISIT_CPU_SECONDS
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec
from bsrbench.harness.trial.trial_passes import CLOCK, CPU_TIME, passes_of

RECORD_BYTES, SIDECAR_BYTES = 9_000, 45_000  # mean sizes of the files in results/
# Values of 4 bytes that an optimizer stores per trained weight. The projected optimizers store less
# than AdamW; how much less depends on the shapes.
STATES = {
    "sgd": 1.0,
    "adamw": 2.0,
    "adamw8": 0.51,
    "adamw4": 0.27,
    "adafactor": 0.02,
    "lion": 1.0,
    "galore": 2.0,
    "apollo": 2.0,
    "apollo-mini": 2.0,
}
FP32_BYTES = 4


@dataclass(frozen=True)
class GenerationTime:
    """How long one generation of a round group takes.

    Attributes:
        starts_seconds: time to start its members.
        rounds_seconds: time of the minimum number of rounds.
        after_seconds: time of the visits after the rounds.
    """

    starts_seconds: float
    rounds_seconds: float
    after_seconds: float

    @classmethod
    def of(cls, group: Group, number: int, known: ForecastInputs) -> "GenerationTime":
        """Return the time of a generation of a group; the first one compiles its rows."""
        starts = rounds = after = 0.0
        in_rounds = Counter(kind for n in range(group.rounds()) for kind in kinds_in_round(n))
        for spec in (trial.spec for trial in group.members()):
            profile = spec.profile or Profile()
            starts += known.start_of(spec, profile, again=number > 0)
            for kind, times in in_rounds.items():
                rounds += times * known.visit_seconds(kind, spec, profile)
            for kind in kinds_after_rounds(energy=known.energy):
                after += known.visit_seconds(kind, spec, profile)
        return cls(starts, rounds, after)

    def seconds(self) -> float:
        """Return the time of the whole generation, if it has the minimum number of rounds."""
        return self.starts_seconds + self.rounds_seconds + self.after_seconds


@dataclass(frozen=True)
class Forecast:
    """The predicted time and disk space of a run.

    Attributes:
        least_seconds: time if all ratios settle in the minimum number of rounds and generations.
        most_seconds: time if no ratio settles and the generations use up their budget.
        written_bytes: size of records and sidecars.
        checkpoint_bytes: size of the checkpoint while a long training runs.
        unknown: labels of rows whose FLOPs could not be predicted; their steps are not included.
        pieces: the parts of the run by key; a generation has the key of ``generation_key``, and a
            pass has the key of ``pass_key``.
    """

    least_seconds: float
    most_seconds: float
    written_bytes: int
    checkpoint_bytes: int
    unknown: tuple[str, ...] = ()
    pieces: Mapping[Key, Piece] = field(default_factory=dict)


def forecast(
    groups: Iterable[Group],
    missing: Sequence[PlannedTrial],
    known: ForecastInputs,
    jobs: int = 1,
) -> Forecast:
    """Return the total predicted time and disk space of a run's passes.

    Args:
        groups: the trials that are timed in turns, including stored ones that are timed again.
        missing: the trials to run.
        known: costs of the rows, sizes of the data, speed of the machine.
        jobs: number of passes without a clock that run at the same time.
    """
    pieces: dict[Key, Piece] = {}
    for part, group in enumerate(groups):
        pieces |= cpu_generations(part, group, known) | generations(part, group, known)
    least = sum(piece.seconds or 0.0 for piece in pieces.values())
    most = sum(piece.expected_seconds() or 0.0 for piece in pieces.values())
    passes = _passes(missing, known, jobs)
    alone = WorkLeft(passes).left_seconds() or 0.0
    specs = [trial.spec for trial in missing]
    return Forecast(
        least_seconds=least + alone,
        most_seconds=most + alone,
        written_bytes=sum(RECORD_BYTES + SIDECAR_BYTES * bool(spec.profile) for spec in specs),
        checkpoint_bytes=max((_checkpoint(spec, known) for spec in specs), default=0),
        unknown=tuple(dict.fromkeys(s.label() for s in specs if s.row_id() not in known.costs)),
        pieces=pieces | passes,
    )


def generation_key(part: int, number: int) -> Key:
    """Return the key of a generation in a forecast.

    Args:
        part: number of its part of a round group, in the order in which they are timed.
        number: number of the generation.
    """
    return (CLOCK, part, number)


def cpu_generation_key(part: int, number: int) -> Key:
    """Return the key of a generation of CPU time; the arguments are those of ``generation_key``."""
    return (CPU_TIME, part, number)


def pass_key(trial_key: str, name: str) -> Key:
    """Return the key of a pass without a clock in a forecast."""
    return (trial_key, name)


def generations(part: int, group: Group, known: ForecastInputs) -> dict[Key, Piece]:
    """Return the pieces of a round group: its minimum number of generations.

    A generation goes on until its share of the budget is used, if its ratios do not settle before.
    """
    spent = sum(piece.seconds or 0.0 for piece in cpu_generations(part, group, known).values())
    share = max(0.0, group.budget_seconds() - spent) / max(1, group.generations())
    pieces = {}
    for number in range(group.generations()):
        time = GenerationTime.of(group, number, known)
        floor = share + time.after_seconds
        kind = f"{CLOCK} {part}{', first' if _compiles(group) and number == 0 else ''}"
        pieces[generation_key(part, number)] = Piece(kind, time.seconds(), floor)
    return pieces


def cpu_generations(part: int, group: Group, known: ForecastInputs) -> dict[Key, Piece]:
    """Return the generations in which the CPU time of a round group is measured, as pieces."""
    pieces = {}
    for number in range(group.cpu_generations()):
        each = [_cpu_seconds(trial.spec, known, again=number > 0) for trial in group.members()]
        kind = f"{CPU_TIME} {part}{', first' if _compiles(group) and number == 0 else ''}"
        pieces[cpu_generation_key(part, number)] = Piece(kind, sum(each))
    return pieces


def _cpu_seconds(spec: TrialSpec, known: ForecastInputs, *, again: bool) -> float:
    """Return how long a row takes in one generation of CPU time."""
    cost, profile = known.costs.get(spec.row_id()), spec.profile or Profile()
    start = known.start_of(spec, profile, again=again)
    if cost is None:
        return start
    step = known.cycle_seconds(cost)
    # The least time of a visit is CPU time, which passes as many times faster as there are threads.
    visit = max(step, VISIT_CPU_SECONDS / spec.workload.threads)
    more_warm_up = max(0, LEAST_WARM_UP_STEPS - profile.warmup_steps)
    return start + more_warm_up * step + min(CPU_ROUNDS, profile.rounds) * visit


def _compiles(group: Group) -> bool:
    return any(trial.spec.workload.compiled_step for trial in group.members())


def _passes(missing: Sequence[PlannedTrial], known: ForecastInputs, jobs: int) -> dict[Key, Piece]:
    """Return the passes without a clock; a row's first pass compiles it, unless it was timed."""
    pieces: dict[Key, Piece] = {}
    compiled: set[str] = set()
    for trial in missing:
        row, names = trial.spec.row_id(), passes_of(trial.spec)
        for name in names:
            if name == CLOCK:
                compiled.add(row)
                continue
            seconds = known.pass_seconds(name, trial.spec, again=row in compiled)
            compiles = trial.spec.workload.compiled_step and name in COMPILING
            kind = f"{name}{', compiled' if compiles else ''}"
            pieces[pass_key(trial.key, name)] = Piece(kind, seconds, lanes=jobs)
            if compiles:
                compiled.add(row)
    return pieces


def _checkpoint(spec: TrialSpec, known: ForecastInputs) -> int:
    """Return the bytes of all parameters and the optimizer's state; 0 if nothing is trained."""
    cost = known.costs.get(spec.row_id())
    if cost is None or spec.training is None:
        return 0
    states = STATES[spec.workload.optimizer] * cost.trained_parameters
    return round(FP32_BYTES * (cost.total_parameters + states))
