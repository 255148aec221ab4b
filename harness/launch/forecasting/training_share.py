"""The share of a training pass that is done, from the number of its steps that are done."""

from dataclasses import dataclass, field
from pathlib import Path

from bsrbench.harness.launch.forecasting.forecast_inputs import ForecastInputs
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.step_file import steps_in
from bsrbench.harness.trial.trial_passes import TRAINING


@dataclass
class TrainingShare:
    """Follows one training pass.

    Attributes:
        spec: the trial.
        file: the file into which its process writes the number of steps.
        known: the inputs of the forecast; ``None`` if there is none.
    """

    spec: TrialSpec
    file: Path
    known: ForecastInputs | None = None
    _first: list[int] = field(default_factory=list)

    def __call__(self) -> float:
        """Return the share of the pass that is done; 0 while it is not known.

        The steps that a checkpoint has done before do not count.
        """
        done, training = steps_in(self.file), self.spec.training
        if done is None or training is None:
            return 0.0
        self._first.append(done)
        first = self._first[0]
        if done <= first or training.steps <= first:
            return 0.0
        share = (done - first) / (training.steps - first)
        return self._before() + share * (1 - self._before() - self._after())

    def _before(self) -> float:
        """Return the share of the pass before the first step."""
        return self._part(0.0 if self.known is None else self.known.start_seconds)

    def _after(self) -> float:
        """Return the share of the last reading of the accuracy."""
        known = self.known
        cost = None if known is None else known.costs.get(self.spec.row_id())
        if known is None or cost is None or self.spec.training is None:
            return 0.0
        splits = known.images.get(self.spec.workload.data_name(), {})
        batches = splits.get(self.spec.training.evaluate, 0) / self.spec.workload.step_images()
        return self._part(batches * known.evaluation_seconds(cost))

    def _part(self, seconds: float) -> float:
        whole = None if self.known is None else self.known.pass_seconds(TRAINING, self.spec)
        return seconds / whole if whole else 0.0
