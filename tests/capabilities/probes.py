"""What a method can do, found out by doing it with the tiny model of the conformance checks."""

import gc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.conformance import checks, promises, steps
from bsrbench.harness.conformance.subject import (
    BrokenPromise,
    Subject,
    backward,
    ready,
    tiny_batch,
    tiny_model,
    trained,
)
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import NeedsValues, Unsupported
from bsrbench.harness.predict.fake_step import fake_numbers
from bsrbench.harness.torch_internals.eager_internals import NEEDS_NUMBERS
from bsrbench.harness.training.kept_storages import census
from bsrbench.methods.parts.peft_tuners import tuner_classes
from tests.methods.tuner_settings import options_of

YES, NO = "yes", "no"
SHOWN = 160  # characters of a reason


@dataclass(frozen=True)
class Probed:
    """What was found about a method or a tuner.

    Attributes:
        name: the method, as it can be used, or the tuner.
        devices: device types that the method is made for; empty means all.
        exact_forward: whether the logits of a prepared model are those of the original one.
        compiles: ``yes``, or why the step is not one graph.
        bf16: ``yes``, or what is wrong under bf16 autocast.
        held: bytes after the forward pass, relative to full fine-tuning.
        weights: bytes of parameters and buffers, relative to the original model.
        trained: number of parameters that train.
        needs_values: whether shapes or the step depend on values, so it cannot be predicted.
        broken: promises that are not kept, with reasons.
    """

    name: str
    devices: str
    exact_forward: str
    compiles: str
    bf16: str
    held: str
    weights: str
    trained: str
    needs_values: str
    broken: str


def subjects() -> Iterator[Subject]:
    """Yield all methods except ``peft``, each with the method that it follows, if it needs one."""
    for name in methods.names():
        if name != "peft":
            yield Subject(methods.usable(name), methods.find, methods.load)


def tuner_subjects() -> Iterator[tuple[str, Subject]]:
    """Yield every tuner of the installed peft, and the method with this tuner."""
    for tuner in sorted(tuner_classes()):
        yield tuner, Subject("peft", methods.find, methods.load, options_of(tuner))


def probe(name: str, subject: Subject) -> Probed:
    """Return what a method or a tuner can do.

    Raises:
        Unsupported: it cannot be applied to the tiny model.
        BadInput: its options are not valid.
    """
    method = subject.method()
    model = subject.prepared()
    return Probed(
        name=name,
        devices=" ".join(sorted(method.devices)),
        exact_forward=_exact_forward(subject),
        compiles=_outcome(lambda: steps.compile_in_one_piece(subject)),
        bf16=_outcome(lambda: steps.runs_in_bf16_near_fp32(subject)),
        held=_held(subject),
        weights=f"{_stored(model) / _stored(subject.model()):.2f}",
        trained=str(sum(p.numel() for p in trained(model))),
        needs_values=_needs_values(subject),
        broken="; ".join(_broken(subject)),
    )


def pair(first: str, second: str) -> str:
    """Return ``yes`` if a composition of two methods trains the tiny model, or why it does not."""

    def train() -> None:
        method = methods.load(f"{first}+{second}")
        backward(method, ready(method, tiny_model()), tiny_batch())

    return _outcome(train)


def _outcome(action: Callable[[], object]) -> str:
    """Return ``yes``, or the first line of why an action fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action()
    except (BrokenPromise, Unsupported, BadInput) as reason:
        return str(reason).splitlines()[0][:SHOWN]
    except Exception as error:  # noqa: BLE001 - whatever a method or torch raises is a finding
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0]}"[:SHOWN]
    return YES


def _exact_forward(subject: Subject) -> str:
    images, _ = tiny_batch()
    same = True
    for training in (True, False):
        made, plain = subject.prepared().train(training), subject.model().train(training)
        same = same and torch.allclose(made(images), plain(images), atol=promises.ROUNDING)
    return YES if same else NO


def _held(subject: Subject) -> str:
    if not subject.method().made_for("cpu"):
        return ""
    sizes = []
    for method in (subject.method(), subject.load("full")):
        with census() as kept:
            sizes.append(promises.held_bytes(method, subject.model(), kept))
        gc.collect()
    return f"{sizes[0] / sizes[1]:.2f}"


def _stored(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])


def _needs_values(subject: Subject) -> str:
    method = subject.method()
    model = ready(method, subject.model())
    try:
        with fake_numbers(method, model):
            images, labels = tiny_batch()
            for _ in range(2):
                backward(method, model, (images, labels))
                method.step_done()
                model.zero_grad()
    except (NeedsValues, *NEEDS_NUMBERS):
        return YES
    return NO


def _broken(subject: Subject) -> Iterator[str]:
    """Yield the promises that are not kept, except those that the other columns show."""
    shown = {"runs_in_bf16_near_fp32", "compiles_in_one_piece", "forward_promise"}
    for result in checks.examine(subject):
        name = result.check.name()
        if result.broken and name not in shown:
            yield f"{name}: {result.broken.splitlines()[0][:SHOWN]}"
