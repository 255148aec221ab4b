"""How long a run will take and what it will write, told before it begins."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from bsrbench.harness.launch.planning.run_plan import Group
from bsrbench.harness.profiler.clock_pass import PHASE_STEPS
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.trial_passes import CLOCK, ESTIMATE, TRAINING, passes_of

PASS_SECONDS = 0.7  # a process, a model, an optimizer: what no FLOP counts
# How many plain steps the passes of a profile take as long as: they repeat and watch theirs.
STEPS_OF = {"memory": 9.0, "process": 3.5, "flops": 5.0, ESTIMATE: 0.0}
RECORD_BYTES, SIDECAR_BYTES = 9_000, 45_000  # the means of those in results/
STATES = {"sgd": 1, "adamw": 2}  # numbers an optimizer keeps of each trained weight
FP32_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """What was predicted of a row with nothing executed.

    Attributes:
        step_flop: of an optimizer step.
        forward_flop: of a batch's forward pass.
        trained_parameters: those with a gradient.
        total_parameters: all.
    """

    step_flop: float
    forward_flop: float
    trained_parameters: int
    total_parameters: int

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "Cost | None":
        """Take it from values by their metrics; nothing where one is not known."""
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError:
            return None


@dataclass(frozen=True)
class ForecastInputs:
    """What a forecast is made from.

    Attributes:
        speed: FLOPs a second.
        costs: row id -> what was predicted of it; rows of which nothing could be are left out.
        images: data set -> images of its splits.
    """

    speed: float
    costs: dict[str, Cost]
    images: Mapping[str, Mapping[str, int]]

    def seconds(self, pass_name: str, spec: TrialSpec) -> float:
        """Return how long one run of a pass will take."""
        cost = self.costs.get(spec.row_id())
        if cost is None:
            return PASS_SECONDS
        steps, forwards = self._work(pass_name, spec)
        flop = steps * cost.step_flop + forwards * cost.forward_flop
        return PASS_SECONDS + flop / self.speed

    def _work(self, pass_name: str, spec: TrialSpec) -> tuple[float, float]:
        """Return the optimizer steps of a pass, and the forward passes beside them."""
        if pass_name == TRAINING and spec.training:
            splits = self.images.get(spec.workload.data_name(), {})
            curve = spec.training.steps // (spec.training.evaluate_every or spec.training.steps + 1)
            read = splits.get(spec.training.evaluate, 0) + curve * splits.get("validation", 0)
            return spec.training.steps, read / spec.workload.step_images()
        if pass_name == CLOCK and spec.profile:
            timed, warmup = spec.profile.steps, spec.profile.warmup_steps
            return warmup + timed + PHASE_STEPS, timed + 1
        return STEPS_OF[pass_name], 0


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Attributes:
        least_seconds: where all times settle in the fewest rounds.
        most_seconds: where none does, and the rounds use up their budget.
        written_bytes: records and sidecars.
        checkpoint_bytes: kept while a long training runs.
        unknown: labels of rows whose FLOPs could not be predicted; their steps are not in it.
    """

    least_seconds: float
    most_seconds: float
    written_bytes: int
    checkpoint_bytes: int
    unknown: tuple[str, ...] = ()


def forecast(
    groups: Iterable[Group], missing: Sequence[TrialSpec], known: ForecastInputs
) -> Forecast:
    """Add up what the passes of a run will take.

    Args:
        groups: the trials that are timed in turns, stored ones that are timed again among them.
        missing: the trials to be done, whose other passes run one by one.
        known: of the rows, the data and the machine.
    """
    least = most = 0.0
    for group in groups:
        a_round = sum(known.seconds(CLOCK, trial.spec) for trial in group.members())
        rounds = group.rounds() * a_round
        least += rounds
        most += max(rounds, group.budget_seconds())
    alone = sum(
        known.seconds(name, spec) for spec in missing for name in passes_of(spec) if name != CLOCK
    )
    return Forecast(
        least_seconds=least + alone,
        most_seconds=most + alone,
        written_bytes=sum(RECORD_BYTES + SIDECAR_BYTES * bool(spec.profile) for spec in missing),
        checkpoint_bytes=max((_checkpoint(spec, known) for spec in missing), default=0),
        unknown=tuple(dict.fromkeys(s.label() for s in missing if s.row_id() not in known.costs)),
    )


def _checkpoint(spec: TrialSpec, known: ForecastInputs) -> int:
    """Return the bytes of all parameters and the optimizer's state, if there is a training."""
    cost = known.costs.get(spec.row_id())
    if cost is None or spec.training is None:
        return 0
    states = STATES[spec.workload.optimizer] * cost.trained_parameters
    return FP32_BYTES * (cost.total_parameters + states)
