"""Predictions against what is measured, and that nothing is executed for them."""

import json
import resource
from dataclasses import dataclass
from functools import partial

import pytest
from pydantic import ValidationError
from torch import nn

from bsrbench import methods
from bsrbench.harness.launch.processes.pass_process import PassSettings
from bsrbench.harness.method import Kind, Method
from bsrbench.harness.predict.estimate import CUDA_ASSUMES, NOT_OF_COMPILED, estimate_pass, predict
from bsrbench.harness.profiler.counted_cycle import counted_cycle, over_states
from bsrbench.harness.profiler.counted_step import at_peak_metrics
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.records.remarks import Absence, AbsenceKind, Note, NoteKind
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.pass_result import Answer
from bsrbench.harness.trial.trial_passes import passes_of
from bsrbench.methods.parts.extend_module import extend

MIB = 2**20
ASSUMED = "NVIDIA H100 80GB HBM3, because no GPU is here"
HERE = [methods.usable(name) for name in methods.names() if methods.load(name).made_for("cpu")]
PAIRS = [
    "bsr+int8w",
    "lora+nf4",
    "bsr+int8w+int8",
    "bsr+int8",
    "bsr+checkpoint",
    "lora+int8",
    "bsr+int2",
    "bsr+regelu2",
]
# Options with which a step does not depend on data.
WITHOUT_DATA = {"asi": {"ranks": [1, 4, 8]}, "wasi": {"rank": 6, "ranks": [1, 4, 8]}}
ESTIMATE = ("estimate", "--model", "test_vit", "--image-size", 64, "--batch", 2, "--method")


def in_common(spec):
    """Return what was predicted and what the second step and the FLOP pass measured of it."""
    predicted = predict(spec, methods.load).measurements
    predicted["peak_counted_bytes"] = predicted.pop("peak_estimated_bytes")
    predicted.pop("paper_convention_bytes", None)
    job, batch = job_and_batch(spec, methods.load)
    cycle = counted_cycle(job, batch)
    steady = cycle.again
    read = flop_pass(spec, methods.load).measurements | at_peak_metrics(steady)
    read["peak_counted_bytes"] = steady.peak
    read["held_after_forward_bytes"] = steady.held_after_forward
    read |= over_states(len(job.current.states), cycle.peaks).measurements
    return predicted, {name: read[name] for name in predicted}


@pytest.mark.parametrize("name", [*HERE, *PAIRS])
def test_a_prediction_is_what_is_measured_to_the_byte_and_the_flop(name, make_six_spec):
    """Peak, its eight categories, bytes held, FLOPs, MACs and parameters."""
    options = {"options": WITHOUT_DATA[name]} if name in WITHOUT_DATA else {}
    predicted, measured = in_common(make_six_spec(name, batch=2, **options))

    assert predicted == measured
    assert {"peak_counted_bytes", "held_after_forward_bytes", "step_flop", "forward_flop"} < set(
        predicted
    )
    assert {"trained_parameters", "total_parameters", "forward_macs"} < set(predicted)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("bsr+int8", {"optimizer": "adamw"}),
        ("full", {"batch": 3, "micro_batch": 2, "precision": "bf16"}),
        ("full", {"batch": 3, "micro_batch": 2, "precision": "fp16"}),
        ("bsr+int8", {"optimizer": "adamw", "precision": "fp16"}),
        ("sparse", {"precision": "fp16", "momentum": 0.0}),
        ("full", {"batch": 1, "optimizer_in_backward": True, "optimizer": "adamw"}),
    ],
    ids=str,
)
def test_a_prediction_holds_for_other_workloads(name, changes, make_six_spec):
    """A batch of 3 in micro-batches of 2 ends with one of 1."""
    predicted, measured = in_common(make_six_spec(name, **changes))

    assert predicted == measured


def test_an_estimate_in_a_profile_keeps_what_others_measure_in_the_sidecar(make_six_spec):
    reading = estimate_pass(make_six_spec("head"), methods.load)
    whole = predict(make_six_spec("head"), methods.load)

    assert set(reading.measurements) == {"peak_estimated_bytes", "paper_convention_bytes"}
    assert reading.measurements | reading.detail.estimated == (
        whole.measurements | whole.detail.estimated
    )


def test_of_a_compiled_step_the_flops_are_predicted_and_its_memory_is_missing(make_six_spec):
    """Nothing is compiled for it; what the compiler keeps is its own choice."""
    whole = predict(make_six_spec("full"), methods.load).measurements
    found = predict(make_six_spec("full", compiled_step=True), methods.load)
    work = ("step_flop", "forward_flop", "forward_macs", "trained_parameters", "total_parameters")

    assert found.measurements == {name: whole[name] for name in (*work, "paper_convention_bytes")}
    assert found.missing == {
        name: Absence(AbsenceKind.NOT_AVAILABLE, NOT_OF_COMPILED)
        for name in ("peak_estimated_bytes", "peak_estimated_allocated_bytes")
    }


LARGE_BATCH = 4096  # of 224 px: 2.3 GiB of images and 500 GiB of activations


def test_nothing_is_executed(launcher, make_deep_spec):
    """Full fine-tuning with a batch for which no machine that runs tests has the memory."""
    spec = make_deep_spec(batch=LARGE_BATCH, image_size=224)
    result = launcher._call(partial(_memory_of_a_prediction, spec), Answer, PassSettings())
    predicted, risen = json.loads(result.reason)

    assert predicted > LARGE_BATCH * 3 * 224 * 224 * 4
    assert risen < 300 * MIB


def _memory_of_a_prediction(spec):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = predict(spec, methods.load)
    risen = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    said = [found.measurements["peak_estimated_bytes"], risen]
    return Answer(reason=json.dumps(said))


def test_cuda_is_predicted_without_one_in_whole_blocks_and_says_what_it_assumes(make_six_spec):
    here = predict(make_six_spec("bsr"), methods.load)
    there = predict(make_six_spec("bsr", device="cuda"), methods.load)
    kinds = [name for name in there.measurements if name.endswith("_at_peak_bytes")]

    parts = there.detail.estimated_allocated.parts

    assert here.notes == ()
    assert there.notes == (Note(NoteKind.PREDICTION, CUDA_ASSUMES.format(gpu=ASSUMED)),)
    assert sum(parts.values()) == there.measurements["peak_estimated_allocated_bytes"]
    assert parts["tensors"] >= there.measurements["peak_estimated_bytes"]
    assert there.measurements["peak_estimated_bytes"] > here.measurements["peak_estimated_bytes"]
    assert all(there.measurements[n] % 512 == 0 for n in [*kinds, "peak_estimated_bytes"])
    for same in ("step_flop", "forward_flop", "forward_macs", "trained_parameters"):
        assert there.measurements[same] == here.measurements[same]


class MixesImages(nn.Module):
    """Multiplies every image of a batch with every other, of which no trace of few images tells."""

    def forward(self, images):
        x = super().forward(images)
        return x + (x @ x.T @ x) / 1e3


@dataclass(frozen=True)
class Mixing(Method):
    """Lets the logits of a batch mix."""

    source = "a test"
    exact_forward = False
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        extend(model, MixesImages)
        return model


def test_an_estimate_notes_what_a_profile_notes_of_two_counters(make_spec):
    """Of 4 images and 5 classes the products are 2 x 4 x 4 x 5; one and two images have 10 and 40.

    From these follow 10 + 3 x 30 = 100, and right are 160.
    """
    spec = make_spec("mixing", batch=4)
    noted, measured = (p(spec, lambda _: Mixing()).notes for p in (predict, flop_pass))
    plain = flop_pass(make_spec(batch=4), methods.load).measurements["forward_flop"]
    ran, traced = plain + 2 * 160, plain // 2 + 100

    (note,) = noted
    assert noted == measured
    assert note.text == (
        f"two counters disagree about the forward pass: {ran} FLOP counted while it ran, but "
        f"{traced} multiply-adds counted in its trace, which are {2 * traced} FLOP"
    )


@pytest.mark.parametrize("micro_batch", [None, 2, 3])
def test_macs_of_what_runs_once_a_pass_are_half_its_flops(micro_batch, make_spec):
    """A network that makes biases of positions runs once for each micro-batch."""
    spec = make_spec(model="test_vit_relpos", batch=4, micro_batch=micro_batch)
    predicted, measured = (p(spec, methods.load) for p in (predict, flop_pass))

    assert predicted.measurements["forward_flop"] == 2 * predicted.measurements["forward_macs"]
    assert measured.measurements["forward_macs"] == predicted.measurements["forward_macs"]
    assert measured.notes == predicted.notes == ()


def test_the_command_prints_every_value_with_its_unit(typed):
    code, printed = typed(*ESTIMATE, "head")

    assert code == 0
    assert "head on test_vit: random weights, noise images" in printed
    for name, unit in (
        ("peak_estimated_bytes", "B"),
        ("paper_convention_bytes", "B"),
        ("forward_flop", "FLOP"),
        ("step_flop", "FLOP"),
        ("forward_macs", "MAC"),
        ("weights_at_peak_bytes", "B"),
    ):
        (line,) = [line for line in printed.splitlines() if line.startswith(f"  {name} = ")]
        assert line.endswith(f" {unit}")
    assert "  trained_parameters = 650\n" in printed  # 64 x 10 + 10


def test_the_command_s_json_is_all_it_prints(typed):
    code, printed = typed(*ESTIMATE, "int8", "--json")
    found = json.loads(printed)

    assert code == 0
    assert found["spec"]["method"] == "int8"
    assert found["measurements"]["peak_estimated_bytes"] > 0
    assert "compressed" in found["missing"]["paper_convention_bytes"]


def test_an_unsupported_method_is_one_line_and_exit_code_1(typed):
    """BSR's defaults name blocks that a model of six has not."""
    code, printed = typed(*ESTIMATE, "bsr")

    assert code == 1
    assert printed.startswith("unsupported: ")
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "test_vitt", "--batch", 1, "--method", "full"), "no timm model 'test_vitt'"),
        (("--model", "test_vit", "--batch", 1, "--method", "ful"), "did you mean 'full'"),
        ((*ESTIMATE[1:], "full", "--image-size", 65), "not a multiple"),
        ((*ESTIMATE[1:], "full", "--micro-batch", 3), "micro_batch 3 is larger than batch 2"),
        ((*ESTIMATE[1:], "full", "--device", "cud"), "no device 'cud'"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, typed):
    code, printed = typed("estimate", *arguments)

    assert code == 2
    assert said in printed
    assert len(printed.strip().splitlines()) == 1


def test_a_prediction_that_breaks_loses_no_measurement(make_six_spec):
    """The pass says why and completes; the other passes' values make the record."""

    def breaking(name, **options):
        method = methods.load(name, **options)
        object.__setattr__(method, "prepare", lambda _: 1 / 0)
        return method

    reading = estimate_pass(make_six_spec("full"), breaking)

    assert reading.measurements == {}
    assert "ZeroDivisionError" in reading.missing["peak_estimated_bytes"].text


def test_a_trial_that_only_predicts_executes_nothing(make_spec):
    """Its one pass has what a real profile measures, at a batch that none could hold."""
    spec = make_spec(profile=Profile(rounds=0, only_predict=True), batch=1 << 20)
    reading = estimate_pass(spec, methods.load)
    small = predict(make_spec(batch=1), methods.load).measurements

    assert passes_of(spec) == ["estimate"]
    assert reading.measurements["step_flop"] == small["step_flop"] << 20
    assert reading.measurements["peak_estimated_bytes"] > 256 << 30
    assert reading.missing == {}
    assert any("nothing was executed" in note.text for note in reading.notes)


def test_what_only_predicts_cannot_be_timed():
    with pytest.raises(ValidationError, match="so nothing can be timed: set rounds = 0, not 5"):
        Profile(only_predict=True)
