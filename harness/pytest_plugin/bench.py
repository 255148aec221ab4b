"""The object that a test calls to measure a method on a workload."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from bsrbench.harness.errors import BadInput, explain, unknown
from bsrbench.harness.method import Unsupported
from bsrbench.harness.pytest_plugin.counters import Counters, NotMeasured
from bsrbench.harness.pytest_plugin.paired_steps import take_turns
from bsrbench.harness.pytest_plugin.result import STEP_SECONDS, Result, extra_info
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.spec.row_name import RowLabel
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.spec.workload_axes import AXIS_KEYS, keys_of_axes

ROUNDS = 13
OWN_OF_BASELINE = ("method", "options", *AXIS_KEYS)
NOT_TIMED = "benchmarks are disabled (--benchmark-disable, or pytest-xdist)"
Beside = str | Mapping[str, Any]


@dataclass(repr=False)  # pytest would print the repr with every failure
class Bench:
    """Measures one method, once per test, like pytest-benchmark.

    A test calls it with a method and the workload that it is measured on:

    * ``method``: a name, names joined by ``+``, or ``./file.py:Class``, relative to the folder
      pytest runs in; ``options``: options of the method; of a composition, one mapping per part.
    * ``model``: a timm model; ``weights``: as a suite names them; ``classes``: width of the head.
    * ``batch``: images per optimizer step; ``micro_batch``: images per forward pass, by default the
      whole batch; ``image_size``: side in pixels, by default the model's.
    * ``precision``: ``fp32``, ``bf16`` or ``fp16``.
    * ``optimizer``: as in the label of a row: ``sgd`` (momentum 0.9), ``adamw``,
      ``galore rank=64``.
    * ``optimizer_in_backward``: update each parameter inside the backward pass.
    * ``compiled_step``: ``torch.compile`` the forward and backward pass.
    * ``device``: ``cpu``, ``cuda:0``, ...; ``threads``: CPU threads, by default all usable cores.
    * ``baseline``: a row on the same workload by its label (``full``, ``full (micro-batch 1)``), or
      a mapping with its ``method`` and, where they differ, ``options`` and axes (``micro_batch``,
      ...). Each timed step follows a step of the baseline.
    * ``rounds``: timed steps.

    Attributes:
        benchmark: pytest-benchmark's fixture.
        counters: measure memory and FLOPs.
        usual_baseline: the baseline for tests that name none.
        called: whether the test has called it.
        result: the result; ``None`` if the call failed.
    """

    benchmark: Any
    counters: Counters
    usual_baseline: Beside | None = None
    called: bool = False
    result: Result | None = None

    def __call__(
        self,
        method: str,
        *,
        model: str,
        batch: int,
        image_size: int | None = None,
        classes: int = 10,
        options: Mapping[str, Any] | None = None,
        micro_batch: int | None = None,
        precision: str = "fp32",
        optimizer: str = "sgd",
        optimizer_in_backward: bool = False,
        compiled_step: bool = False,
        device: str = "cpu",
        threads: int | None = None,
        weights: str = "random",
        baseline: Beside | None = None,
        rounds: int = ROUNDS,
    ) -> Result:
        """Measure peak memory and FLOPs of a step in clean processes, then time steps in this one.

        Raises:
            BadInput: an argument is unknown or not valid.
            Unsupported: the method cannot run on this model or device.
            NotMeasured: a pass ran out of memory, diverged or crashed.
        """
        __tracebackhide__ = True
        workload = {
            "model": model,
            "batch": batch,
            "image_size": image_size,
            "classes": classes,
            "micro_batch": micro_batch,
            "precision": precision,
            "optimizer": optimizer,
            "optimizer_in_backward": optimizer_in_backward,
            "compiled_step": compiled_step,
            "device": device,
            "threads": threads or len(os.sched_getaffinity(0)),
            "weights": weights,
        }
        try:
            self._begin(rounds)
            spec = _trial("bsrbench", method, options, workload)
            self.result = self._measure(spec, self._beside(baseline, workload), rounds)
        except (BadInput, Unsupported, NotMeasured) as error:
            # The message is complete: our frames and pydantic's error would add nothing.
            raise error.with_traceback(None) from None
        return self.result

    def _begin(self, rounds: int) -> None:
        if self.called:
            raise BadInput(
                "bsrbench was already called in this test, and pytest-benchmark can time only one "
                "function per test: write one test per method, or parametrize the test"
            )
        self.called = True
        if rounds < 1:
            raise BadInput(f"bsrbench: rounds = {rounds!r}: expected 1 or more")

    def _beside(self, baseline: Beside | None, workload: Mapping[str, Any]) -> TrialSpec | None:
        asked = self.usual_baseline if baseline is None else baseline
        return None if asked is None else _baseline(asked, workload)

    def _measure(self, spec: TrialSpec, beside: TrialSpec | None, rounds: int) -> Result:
        read = self.counters.read(spec)
        read_beside = None if beside is None else self.counters.read(beside)
        seconds, seconds_beside = take_turns(spec, beside, self.benchmark, rounds)
        baseline = None
        if beside is not None and read_beside is not None:
            baseline = _result(beside, read_beside, seconds_beside)
        result = _result(spec, read, seconds, baseline)
        self.benchmark.extra_info.update(extra_info(result))
        return result


def _trial(
    where: str, method: str, options: Mapping[str, Any] | None, workload: Mapping[str, Any]
) -> TrialSpec:
    try:
        return TrialSpec(
            method=method,
            options=dict(options or {}),
            workload=Workload.model_validate({"data": "noise", **keys_of_axes(workload)}),
            profile=Profile(rounds=0),
        )
    except ValidationError as error:
        raise explain(error, where) from error


def _baseline(asked: Beside, workload: Mapping[str, Any]) -> TrialSpec:
    """Return the baseline's trial; keys that a mapping leaves out are as in the measured trial."""
    named: dict[str, Any] = dict(asked) if isinstance(asked, Mapping) else _keys_of(asked)
    for key in named:
        if key not in OWN_OF_BASELINE:
            raise unknown("key of baseline", str(key), OWN_OF_BASELINE)
    if "method" not in named:
        raise BadInput(f"baseline = {named!r}: expected a method's name under the key 'method'")
    method, options = named.pop("method"), named.pop("options", None)
    return _trial("bsrbench: baseline", method, options, {**workload, **named})


def _keys_of(asked: str) -> dict[str, Any]:
    """Return the keys of a baseline that is given by its label."""
    label = RowLabel.parse(asked)
    if label.apart:
        raise BadInput(
            f"baseline = {asked!r}: leave out the part in [...], because the baseline is measured "
            "here"
        )
    return {"method": label.method, "options": dict(label.options), **keys_of_axes(label.axes)}


def _result(
    spec: TrialSpec, read: PassReadings, seconds: list[float], baseline: Result | None = None
) -> Result:
    missing = {metric: absence.text for metric, absence in read.missing.items()}
    not_timed = {} if seconds else {STEP_SECONDS: NOT_TIMED}
    timed = {STEP_SECONDS: seconds} if seconds else {}
    notes = tuple(note.text for note in read.notes)
    return Result(spec, {**read.measurements, **timed}, missing | not_timed, notes, baseline)
