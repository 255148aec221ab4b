"""Predict how long a run will take and how much it will write."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from bsrbench.harness.launch.planning.run_plan import Group
from bsrbench.harness.launch.round_group import CPU_ROUNDS
from bsrbench.harness.profiler.clock_pass import kinds_in_round
from bsrbench.harness.profiler.clock_visits import EVALUATION, VISIT_SECONDS
from bsrbench.harness.profiler.cpu_pass import LEAST_WARM_UP_STEPS, VISIT_CPU_SECONDS
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec
from bsrbench.harness.trial.trial_passes import CLOCK, CPU_TIME, ESTIMATE, TRAINING, passes_of

PASS_SECONDS = 0.7  # to start a process and build model and optimizer
# Duration of each profile pass, in steps without a meter. A pass repeats its step, and its meter
# slows the step down.
STEPS_OF = {"memory": 9.0, "process": 3.5, "flops": 5.0, ESTIMATE: 0.0}
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
# Taken for a device that is not here: what an H100 reached in fp32 with full fine-tuning of DeiT-S
# at batch 128 (3,563 GFLOP in 0.106 s; results/gpu-h100).
ASSUMED_SPEED = 33.5e12


@dataclass(frozen=True)
class Cost:
    """The predicted cost of a row.

    Attributes:
        step_flop: FLOPs of an optimizer step.
        forward_flop: FLOPs of a batch's forward pass.
        trained_parameters: number of parameters with a gradient.
        total_parameters: number of all parameters.
    """

    step_flop: float
    forward_flop: float
    trained_parameters: int
    total_parameters: int

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "Cost | None":
        """Return the cost from values by metric; ``None`` if a value is missing."""
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError:
            return None


@dataclass(frozen=True)
class ForecastInputs:
    """The inputs of a forecast.

    Attributes:
        speed: FLOP per second.
        costs: row id -> predicted cost; rows that cannot be predicted are not included.
        images: data set -> split -> number of images.
        assumed: the speed is ``ASSUMED_SPEED``, because the device is not here.
    """

    speed: float
    costs: dict[str, Cost]
    images: Mapping[str, Mapping[str, int]]
    assumed: bool = False

    def seconds(self, pass_name: str, spec: TrialSpec) -> float:
        """Return how long one run of a pass will take; of a timed pass, one generation."""
        cost = self.costs.get(spec.row_id())
        if cost is None:
            return PASS_SECONDS
        if pass_name == CLOCK and spec.profile:
            return self._generation_seconds(cost, spec.profile)
        if pass_name == CPU_TIME and spec.profile:
            return self._cpu_generation_seconds(cost.step_flop / self.speed, spec.profile)
        steps, forwards = self._work(pass_name, spec)
        flop = steps * cost.step_flop + forwards * cost.forward_flop
        return PASS_SECONDS + flop / self.speed

    def _work(self, pass_name: str, spec: TrialSpec) -> tuple[float, float]:
        """Return the number of optimizer steps and of additional forward passes in a pass."""
        if pass_name == TRAINING and spec.training:
            splits = self.images.get(spec.workload.data_name(), {})
            curve = spec.training.steps // (spec.training.evaluate_every or spec.training.steps + 1)
            read = splits.get(spec.training.evaluate, 0) + curve * splits.get("validation", 0)
            return spec.training.steps, read / spec.workload.step_images()
        return STEPS_OF[pass_name], 0

    def _generation_seconds(self, cost: Cost, profile: Profile) -> float:
        """Return how long a row takes in a generation of the minimum number of rounds.

        It is started and warmed up. A short visit is as long as ``VISIT_SECONDS``, and begins with
        one more step that is not timed.
        """
        step, forward = cost.step_flop / self.speed, cost.forward_flop / self.speed
        kinds = [kind for number in range(profile.rounds) for kind in kinds_in_round(number)]
        seconds = PASS_SECONDS + profile.warmup_steps * step + 2 * forward
        for kind in kinds:
            once, least = (forward, 1) if kind == EVALUATION else (step, profile.steps)
            seconds += max(least * once, VISIT_SECONDS) + once * (once < VISIT_SECONDS)
        return seconds

    @staticmethod
    def _cpu_generation_seconds(step: float, profile: Profile) -> float:
        """Return how long a row takes in a generation of CPU time, if a step takes ``step``."""
        warm_up = max(LEAST_WARM_UP_STEPS, profile.warmup_steps) * step
        visits = min(CPU_ROUNDS, profile.rounds) * max(step, VISIT_CPU_SECONDS)
        return PASS_SECONDS + warm_up + visits


@dataclass(frozen=True)
class Forecast:
    """The predicted time and disk space of a run.

    Attributes:
        least_seconds: time if all ratios settle in the minimum number of rounds and generations.
        most_seconds: time if no ratio settles and the generations use up their budget.
        written_bytes: size of records and sidecars.
        checkpoint_bytes: size of the checkpoint while a long training runs.
        unknown: labels of rows whose FLOPs could not be predicted; their steps are not included.
    """

    least_seconds: float
    most_seconds: float
    written_bytes: int
    checkpoint_bytes: int
    unknown: tuple[str, ...] = ()


def forecast(
    groups: Iterable[Group], missing: Sequence[TrialSpec], known: ForecastInputs
) -> Forecast:
    """Return the total predicted time and disk space of a run's passes.

    Args:
        groups: the trials that are timed in turns, including stored ones that are timed again.
        missing: the trials to run; their other passes run one by one.
        known: costs of the rows, sizes of the data, speed of the machine.
    """
    least = most = 0.0
    for group in groups:
        generation = sum(known.seconds(CLOCK, trial.spec) for trial in group.members())
        timed = group.generations() * generation + group.cpu_generations() * sum(
            known.seconds(CPU_TIME, trial.spec) for trial in group.members()
        )
        least += timed
        most += max(timed, group.budget_seconds())
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
    """Return the bytes of all parameters and the optimizer's state; 0 if nothing is trained."""
    cost = known.costs.get(spec.row_id())
    if cost is None or spec.training is None:
        return 0
    states = STATES[spec.workload.optimizer] * cost.trained_parameters
    return round(FP32_BYTES * (cost.total_parameters + states))
