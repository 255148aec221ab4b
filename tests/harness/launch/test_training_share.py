"""How far a training is, from the file into which its process writes its steps."""

import pytest

from bsrbench.harness.launch.forecasting.forecast_inputs import Cost, ForecastInputs
from bsrbench.harness.launch.forecasting.training_share import TrainingShare
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.step_file import StepFile, steps_in


@pytest.fixture
def spec(make_spec):
    return make_spec(training=Training(steps=100, learning_rate=0.1))


def test_a_file_is_written_once_per_second(tmp_path):
    times = iter([0.0, 0.0, 0.5, 1.5, 1.5])
    file = StepFile(tmp_path / "steps", lambda: next(times))
    seen = []
    for step in (1, 2, 3):
        file.note(step)
        seen.append(steps_in(tmp_path / "steps"))

    assert seen == [1, 1, 3]


def test_what_is_no_number_and_what_is_a_link_is_not_read(tmp_path):
    (tmp_path / "text").write_text("12 steps")
    (tmp_path / "link").symlink_to(tmp_path / "text")
    StepFile(tmp_path / "link").note(5)

    assert [steps_in(tmp_path / name) for name in ("text", "link", "none")] == [None] * 3
    assert (tmp_path / "text").read_text() == "12 steps"


def test_steps_of_a_checkpoint_do_not_count(tmp_path, spec):
    """The training goes on at step 60 of 100; at step 70 a quarter of the rest is done."""
    share, file = TrainingShare(spec, tmp_path / "steps"), tmp_path / "steps"
    before = share()
    file.write_text("60")
    first = share()
    file.write_text("70")

    assert (before, first, share()) == (0, 0, 0.25)


def test_the_start_and_the_last_reading_are_parts_of_a_pass(tmp_path, spec):
    """10 s of start, 100 steps of 0.7 s, and 80 images in batches of 4, each of 1 s: 100 s."""
    cost = {spec.row_id(): Cost(70, 100, 1, 1)}
    known = ForecastInputs(100, cost, {"noise": {"test": 80}}, start_seconds=10)
    share, file = TrainingShare(spec, tmp_path / "steps", known), tmp_path / "steps"
    file.write_text("0")
    share()
    file.write_text("50")

    assert share() == pytest.approx(0.1 + 0.35)
