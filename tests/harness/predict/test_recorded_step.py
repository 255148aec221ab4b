"""Replayed peaks of other batches, against fake steps of these batches."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch

from bsrbench.harness.meters.live_bytes import Life, Timeline
from bsrbench.harness.method import Method
from bsrbench.harness.predict.batch_peaks import BatchPeaks, NotReplayable, NotSteady
from bsrbench.harness.predict.batch_search import FIRST_RESTS, predicted_search
from bsrbench.harness.predict.cuda_workspaces import LAYER_NORM, OperatorSizes
from bsrbench.harness.predict.recorded_step import LimitingPeak, RecordedStep, extrapolated
from bsrbench.harness.predict.step_cost import fake_trial, step_cost, with_batch
from bsrbench.harness.training.kept_storages import KeptStorages
from bsrbench.methods import load

MIB = 2**20
BATCHES = (1, 3, 10, 301)
ROWS = [
    ("full", {}),
    ("full", {"optimizer": "adamw", "precision": "bf16"}),
    ("full", {"device": "cpu"}),
    ("full", {"micro_batch": 8, "batch": 8}),
    ("head", {}),
    ("bsr", {}),
    ("checkpoint", {}),
    ("tome", {}),
    ("int8", {}),
]
by_row = pytest.mark.parametrize(
    ("method", "workload"), ROWS, ids=lambda value: value if isinstance(value, str) else str(value)
)


@dataclass(frozen=True)
class Keeps(Method):
    """Keeps the logits of the last step."""

    kinds: ClassVar = frozenset()

    def prepare(self, model):
        model.register_forward_hook(lambda module, _, made: setattr(module, "last", made.detach()))
        return model


@dataclass(frozen=True)
class Grows(Method):
    """Needs 64 MiB more during the forward pass for each step that was done; it keeps nothing."""

    kinds: ClassVar = frozenset()

    done: list = field(default_factory=list)

    def prepare(self, model):
        held = []
        model.register_forward_pre_hook(
            lambda *_: held.append(torch.empty(64 * MIB * len(self.done), dtype=torch.uint8))
        )
        model.register_forward_hook(lambda *_: held.clear())
        return model

    def step_done(self):
        self.done.append(1)


def slowly(spec, batch):
    return step_cost(with_batch(spec, batch), load).limiting_bytes()


@by_row
def test_a_replayed_peak_is_that_of_a_fake_step_to_the_byte(method, workload, make_six_spec):
    """Where a step of the batch itself is as replayed; other batches are not replayed."""
    spec = make_six_spec(method, **{"device": "cuda"} | workload)
    with fake_trial(with_batch(spec, 1), load, KeptStorages()) as job:
        peaks = BatchPeaks(spec, job)
        replayed = {}
        for first in FIRST_RESTS:
            peaks.begin_at(first)
            for batch in BATCHES:
                try:
                    replayed |= {batch: peaks.replayed(batch)} if peaks.confirms(batch) else {}
                except NotReplayable:
                    continue
        run = {batch: peaks.run(batch) for batch in BATCHES}

    expected = {batch: slowly(spec, batch) for batch in BATCHES}
    assert expected == run
    assert {batch: expected[batch] for batch in replayed} == replayed
    if "int8" not in method and method != "bsr":  # they work in chunks of some rows
        assert set(replayed) == set(BATCHES)


@by_row
def test_fake_steps_of_the_found_batch_and_of_the_next_one_agree(method, workload, make_six_spec):
    spec = make_six_spec(method, **{"device": "cuda"} | workload)
    limit = slowly(spec, 45)
    found = predicted_search(spec, limit, load)

    assert found.smallest_bytes == slowly(spec, 1)
    assert found.predicted_bytes == slowly(spec, found.batch) <= limit
    assert limit < found.next_bytes == slowly(spec, found.batch + 1)


def test_one_image_that_does_not_fit_is_stated_with_its_peak(make_spec):
    spec = make_spec("full", device="cuda")
    found = predicted_search(spec, 1000, load)

    assert (found.batch, found.smallest_bytes) == (None, slowly(spec, 1))


@pytest.mark.parametrize("method", [Keeps, Grows])
def test_a_method_whose_steps_differ_gets_a_job_per_batch(method, make_spec):
    """The kept logits of another batch would count, and so would what later steps need."""

    def make(_, **__):
        return method()

    spec = make_spec("mine", device="cpu")
    peaks = {n: step_cost(with_batch(spec, n), make).limiting_bytes() for n in (1, 20, 21)}
    found = predicted_search(spec, peaks[20], make)

    assert (found.smallest_bytes, found.batch) == (peaks[1], 20)
    assert (found.predicted_bytes, found.next_bytes) == (peaks[20], peaks[21])


def test_a_step_that_leaves_something_behind_is_refused(make_spec):
    spec = make_spec("mine")
    with fake_trial(spec, lambda _, **__: Keeps(), KeptStorages()) as job, pytest.raises(NotSteady):
        BatchPeaks(spec, job).run(4)


def made_step(*sizes, layer_norm=(), operator="aten.made.default"):
    """Return a step of one operator that makes storages of some sizes."""
    lives = tuple(Life(size, at, "", None, True) for at, size in enumerate(sizes, 1))
    line = Timeline([0], [operator], ["forward"], [""], [len(sizes)])
    return RecordedStep(lives, line, (OperatorSizes(LAYER_NORM, (layer_norm,)),), True)


def test_numbers_of_another_batch_lie_on_the_lines_through_two_steps():
    """Sizes 100 and 40 n + 8; rows 10 n."""
    two, three = (
        made_step(100, 88, layer_norm=(20, 4, 4)),
        made_step(100, 128, layer_norm=(30, 4, 4)),
    )
    found = extrapolated((2, two), (3, three), 1000)

    assert found == made_step(100, 40_008, layer_norm=(10_000, 4, 4))


def test_steps_of_another_form_and_batches_apart_are_refused():
    step = made_step(100)

    assert extrapolated((1, step), (2, made_step(100, 4)), 9) is None
    assert extrapolated((1, step), (2, made_step(100, operator="aten.mm.default")), 9) is None
    with pytest.raises(ValueError, match="batches 1 and 3 do not give whole slopes"):
        extrapolated((1, step), (3, step), 9)


def test_the_peak_of_a_cpu_is_counted_and_has_a_moment():
    """Alive after each event: 10, 40, 30, 35."""
    lives = (
        Life(10, 1, "", None, True, ended=3),
        Life(30, 2, "", None, True),
        Life(5, 4, "", None, True),
    )

    assert RecordedStep(lives, Timeline(), (), True).limiting_peak(None) == LimitingPeak(40, 2)
