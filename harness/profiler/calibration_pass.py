"""The calibration pass: how long the parts of a trial take under the load of the moment."""

import time
from collections.abc import Callable

from bsrbench.harness.devices import Device
from bsrbench.harness.errors import Unreadable
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.records.pass_readings import Calibration, PassReadings
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.evaluation import evaluate_batch
from bsrbench.harness.training.job import Job, Loader
from bsrbench.harness.training.training_step import training_step
from bsrbench.harness.workload import tasks
from bsrbench.harness.workload.images.batches import EvaluationBatches

# An action is repeated for so long, so that the mean includes the pauses of a neighbour that is
# busy for 50 ms and idle for 50 ms.
LEAST_SECONDS = 0.5
IMAGES = 16  # images that are decoded and prepared


def calibration_pass(spec: TrialSpec, load: Loader) -> PassReadings:
    """Build the trial; then read the mean time of steps, of evaluations, and of decoding images."""
    job, batch = job_and_batch(spec, load)
    began = time.perf_counter()
    job.current.keep_all()
    states = max(1, len(job.current.states))

    def cycle() -> None:
        for _ in range(states):
            training_step(job, *batch)
            job.current.enter_next()

    cycle()  # the first step makes the optimizer's state
    step = _mean_seconds(cycle, job.device) / states
    job.model.eval()
    evaluation = _mean_seconds(lambda: evaluate_batch(job, batch[0]), job.device)
    actions = time.perf_counter() - began
    load_seconds, image = (0.0, 0.0) if spec.training is None else _of_data(job)
    calibration = Calibration(step, evaluation, actions, _has_energy(job), load_seconds, image)
    return PassReadings({}, calibration=calibration)


def _mean_seconds(action: Callable[[], object], device: Device) -> float:
    """Repeat an action for ``LEAST_SECONDS``, and return the mean."""
    device.synchronise()
    times, began = 0, time.perf_counter()
    while not times or time.perf_counter() - began < LEAST_SECONDS:
        action()
        device.synchronise()
        times += 1
    return (time.perf_counter() - began) / times


def _of_data(job: Job) -> tuple[float, float]:
    """Return the seconds to open the data, and to decode and prepare one image."""
    began = time.perf_counter()
    split = tasks.load(job.spec.workload, job.spec.seed)[0].train
    loaded = time.perf_counter()
    images, _ = EvaluationBatches(split, job.preprocess, IMAGES)[0]
    return loaded - began, (time.perf_counter() - loaded) / len(images)


def _has_energy(job: Job) -> bool:
    try:
        job.device.energy_counter()
    except Unreadable:
        return False
    return True
