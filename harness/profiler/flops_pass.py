"""The FLOP pass: the operations of one step, by two counters."""

from typing import Any

from torch import Tensor, nn

from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters.attention_operators import attention_kernel
from bsrbench.harness.meters.forward_macs import added, disagreement, forward_macs
from bsrbench.harness.meters.operator_modules import OperatorModules
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.method import Unsupported
from bsrbench.harness.model import vit
from bsrbench.harness.model.stored_weight import parameter_numbers
from bsrbench.harness.model.task_heads import turns
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.records.pass_readings import (
    PassReadings,
    absent,
    joined_readings,
    notes_of,
)
from bsrbench.harness.records.remarks import AbsenceKind, NoteKind
from bsrbench.harness.records.sidecar import FlopsDetail, MacsDetail, Sidecar, UncountedOperator
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Job, Loader
from bsrbench.harness.training.training_step import first_forward, images_of_passes, training_step


def flop_pass(spec: TrialSpec, load: Loader) -> PassReadings:
    """Count the FLOPs of one step, forward MACs, parameters, and the tokens after each block.

    A compiled step would run eagerly under the counters, so the uncompiled step is counted.
    """
    job, batch = job_and_batch(spec.uncompiled(), load)
    tokens: list[int] = []
    watchers = _watch_tokens(job.model, tokens)
    states = 0
    with OperatorModules(job.model) as owner, StepFlops(owner.now) as flops:
        for _ in job.current.in_each_state():
            training_step(job, *batch, enter_phase=flops.enter_phase)
            states += 1
    flops.divide(states)
    for watcher in watchers:
        watcher.remove()
    counted = PassReadings(
        {
            "forward_flop": flops.by_phase["forward"],
            "step_flop": sum(flops.by_phase.values()),
            "trained_parameters": job.trained_parameters(),
            "total_parameters": sum(count for count, _ in parameter_numbers(job.model)),
        },
        notes=notes_of(NoteKind.FLOPS, flops.overlooked()),
        detail=Sidecar(flops=_detail(flops)),
    )
    passed_on = _tokens(tokens)
    flop = flops.by_phase["forward"] // job.method.forward_passes
    macs = _macs(job, batch[0][:1], flop)
    attention = PassReadings({}, attention_kernel=attention_kernel(first_forward(job, batch[0])))
    return joined_readings([counted, passed_on, macs, attention])


def _detail(flops: StepFlops) -> FlopsDetail:
    return FlopsDetail(
        by_phase=dict(flops.by_phase),
        by_operator=dict(flops.by_operator.most_common()),
        by_module={phase: dict(counts) for phase, counts in flops.by_module.items()},
        uncounted={
            operator: UncountedOperator(flops.uncounted[operator], touched)
            for operator, touched in flops.uncounted_bytes.most_common()
        },
    )


def _tokens(after_block: list[int]) -> PassReadings:
    if after_block:
        return PassReadings({"tokens_after_block": after_block})
    reason = "the model has no transformer blocks of a known kind"
    return absent(AbsenceKind.NOT_AVAILABLE, reason, "tokens_after_block")


def _macs(job: Job, image: Tensor, flop: int) -> PassReadings:
    """Count the forward pass with fvcore, too, and compare the two counts.

    Args:
        job: the trial.
        image: the first image of the batch, [1, 3, side, side].
        flop: FLOPs of a forward pass in training.
    """
    passes = images_of_passes(job.spec.workload)
    try:
        macs = added([forward_macs(job.model, image, passes) for _ in turns(job.model)])
    except Unreadable as reason:
        return absent(AbsenceKind.UNREADABLE, str(reason), "forward_macs")
    images = sum(passes) * len(job.classes)
    doubts = disagreement(flop, macs.total) if job.method.evaluates_alike else []
    detail = MacsDetail(images, macs.by_operator, macs.by_module, macs.uncounted)
    return PassReadings(
        {"forward_macs": macs.total},
        notes=notes_of(NoteKind.FLOPS, doubts),
        detail=Sidecar(macs=detail),
    )


def _watch_tokens(model: nn.Module, tokens: list[int]) -> list[Any]:
    """Append the token count of each MLP's first output to ``tokens``; the block passes on as many.

    A block can run its MLP again for tokens that it does not pass on.
    """

    def note(index: int, output: Tensor) -> None:
        if len(tokens) == index:
            tokens.append(output.shape[1])

    try:
        return [
            block.mlp.register_forward_hook(lambda *call, index=index: note(index, call[-1]))
            for index, block in enumerate(vit.blocks(model))
        ]
    except Unsupported:
        return []
