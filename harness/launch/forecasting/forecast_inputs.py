"""How long each part of a run takes: starts, visits, passes without a clock."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from bsrbench.harness.profiler.calibration_pass import IMAGES
from bsrbench.harness.profiler.clock_visits import EVALUATIONS_BEFORE, VISIT_KINDS
from bsrbench.harness.records.pass_readings import Calibration
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec
from bsrbench.harness.trial.trial_passes import ESTIMATE, TRAINING
from bsrbench.harness.workload.images.kept_images import MOST_THREADS

PASS_SECONDS = 1.5  # to start a process and build model and optimizer, if it was not measured


@dataclass(frozen=True)
class PassWork:
    """What a pass does, beside starting once.

    Attributes:
        starts: further work of the host, in times of the start of a pass.
        steps: optimizer steps without a meter that take as long as its steps.
        graphs: graphs that ``torch.compile`` makes for a compiled step.
    """

    starts: float = 0.0
    steps: float = 0.0
    graphs: int = 0


# A profile pass repeats its step, and its meter slows the step down.
WORK_OF = {
    "memory": PassWork(starts=1.5, steps=9.0, graphs=1),
    "process": PassWork(steps=3.5, graphs=1),
    "flops": PassWork(starts=0.7, steps=2.0),
}
COMPILING = {"memory", "process", TRAINING}
TRAIN_AND_EVALUATE = 2  # graphs of a clock pass and of a training
# Seconds to compile a graph of a 12-block ViT on a quiet core, and to find it in the row's cache.
COMPILE_SECONDS, FIND_SECONDS = 45.0, 10.0
# Taken for a device that is not here: what an H100 reached in fp32 with full fine-tuning of DeiT-S
# at batch 128 (3,563 GFLOP in 0.106 s; results/gpu-h100).
ASSUMED_SPEED = 33.5e12


MOST_OPTIMIZER_BYTES = 8  # per trained weight, of the optimizer with the largest state


@dataclass(frozen=True)
class Cost:
    """The predicted cost of a row.

    Attributes:
        step_flop: FLOPs of an optimizer step.
        forward_flop: FLOPs of a batch's forward pass.
        trained_parameters: number of parameters with a gradient.
        total_parameters: number of all parameters.
        measured_states: number of states of a method that changes what trains; otherwise 1.
    """

    step_flop: float
    forward_flop: float
    trained_parameters: int
    total_parameters: int
    measured_states: int = 1

    def kept_optimizer_bytes(self) -> int:
        """Return the optimizer state that a clock pass keeps for other states, at most."""
        return (self.measured_states - 1) * self.trained_parameters * MOST_OPTIMIZER_BYTES

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "Cost | None":
        """Return the cost from values by metric; ``None`` if a value is missing.

        A step can have several forward passes, an evaluation has one: its MACs, if they are known.
        """
        macs = values.get("forward_macs")
        one_pass = {"forward_flop": 2 * macs} if isinstance(macs, int) else {}
        try:
            return msgspec.convert({**values, **one_pass}, cls)
        except msgspec.ValidationError:
            return None


@dataclass(frozen=True)
class ForecastInputs:
    """The inputs of a forecast.

    Attributes:
        speed: FLOP per second of an optimizer step.
        costs: row id -> predicted cost; rows that cannot be predicted are not included.
        images: data set -> split -> number of images.
        assumed: the speed is ``ASSUMED_SPEED``, because the device is not here.
        forward_speed: FLOP per second of an evaluation; ``None`` is ``speed``.
        start_seconds: time to start a process and build model and optimizer.
        energy: whether the device has a counter of energy.
        load_seconds: time to open the data of a training.
        image_seconds: time to decode and prepare an image.
    """

    speed: float
    costs: dict[str, Cost]
    images: Mapping[str, Mapping[str, int]]
    assumed: bool = False
    forward_speed: float | None = None
    start_seconds: float = PASS_SECONDS
    energy: bool = False
    load_seconds: float = 0.0
    image_seconds: float = 0.0

    def calibrated(self, tried: Calibration, cost: Cost, pass_seconds: float) -> "ForecastInputs":
        """Return the inputs with the speed at which a row has run here.

        Args:
            tried: how long its parts took.
            cost: the predicted cost of the row.
            pass_seconds: time of the whole calibration pass.
        """
        of_data = tried.load_seconds + IMAGES * tried.image_seconds
        return replace(
            self,
            speed=cost.step_flop / tried.step_seconds,
            forward_speed=cost.forward_flop / tried.evaluation_seconds,
            start_seconds=max(0.0, pass_seconds - tried.actions_seconds - of_data),
            energy=tried.energy,
            load_seconds=tried.load_seconds,
            image_seconds=tried.image_seconds,
        )

    def step_seconds(self, cost: Cost) -> float:
        """Return how long an optimizer step takes."""
        return cost.step_flop / self.speed

    def cycle_seconds(self, cost: Cost) -> float:
        """Return how long a step in each state takes; of most methods, one step."""
        return cost.measured_states * self.step_seconds(cost)

    def evaluation_seconds(self, cost: Cost) -> float:
        """Return how long an evaluation of a step's batch takes."""
        return cost.forward_flop / (self.forward_speed or self.speed)

    def pass_seconds(self, name: str, spec: TrialSpec, *, again: bool = True) -> float | None:
        """Return how long a pass without a clock takes; ``None`` if the row cannot be predicted.

        Args:
            name: the pass.
            spec: the trial.
            again: whether the row's compiled code is cached by then.
        """
        cost = self.costs.get(spec.row_id())
        if cost is None:
            return None
        if name == ESTIMATE:
            return 0.0  # it was run before the forecast
        if name == TRAINING and spec.training:
            compiling = self._compiling(spec, TRAIN_AND_EVALUATE, again=again)
            return (
                self.start_seconds + compiling + self._training_seconds(spec, spec.training, cost)
            )
        work = WORK_OF[name]
        compiling = self._compiling(spec, work.graphs, again=again)
        steps = work.steps * self.cycle_seconds(cost)
        return self.start_seconds * (1 + work.starts) + compiling + steps

    def _training_seconds(self, spec: TrialSpec, training: Training, cost: Cost) -> float:
        """Return the time of all steps and evaluations, with their images."""
        splits = self.images.get(spec.workload.data_name(), {})
        curve = training.steps // (training.evaluate_every or training.steps + 1)
        read = splits.get(training.evaluate, 0) + curve * splits.get("validation", 0)
        batch = spec.workload.step_images()
        seconds = training.steps * self.step_seconds(cost)
        seconds += read / batch * self.evaluation_seconds(cost)
        trained = training.steps * batch
        if training.augmentation == "none":  # a prepared image is kept
            trained = min(trained, splits.get("train", trained))
        preparing = (trained + read) * self.image_seconds
        if spec.workload.device == "cpu":
            return self.load_seconds + seconds + preparing
        # Workers prepare images while the device computes.
        return self.load_seconds + max(seconds, preparing / MOST_THREADS)

    def start_of(self, spec: TrialSpec, profile: Profile, *, again: bool) -> float:
        """Return how long a row takes to be built and warmed up for visits."""
        cost = self.costs.get(spec.row_id())
        if cost is None:
            return self.start_seconds
        # The first step makes the optimizer's state, and shows nothing of the next ones.
        steps = max(profile.warmup_steps, 1) * self.cycle_seconds(cost)
        warming = steps + EVALUATIONS_BEFORE * self.evaluation_seconds(cost)
        compiling = self._compiling(spec, TRAIN_AND_EVALUATE, again=again)
        return self.start_seconds + compiling + warming

    def visit_seconds(self, kind: str, spec: TrialSpec, profile: Profile) -> float:
        """Return how long a visit of a row takes; 0 if the row cannot be predicted."""
        cost = self.costs.get(spec.row_id())
        if cost is None:
            return 0.0
        cycle, evaluation = self.cycle_seconds(cost), self.evaluation_seconds(cost)
        cycles = -(-profile.steps // cost.measured_states)
        return VISIT_KINDS[kind].seconds(cycle, evaluation, cycles)

    def _compiling(self, spec: TrialSpec, graphs: int, *, again: bool) -> float:
        if not spec.workload.compiled_step:
            return 0.0
        return graphs * (FIND_SECONDS if again else COMPILE_SECONDS)


# Of a run that does not predict its rows: its pieces then show how long the others take.
NOTHING_PREDICTED = ForecastInputs(ASSUMED_SPEED, {}, {})
