"""Meters against known quantities, closed forms and each other."""

import subprocess
import sys

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from bsrbench.harness.meters import phase_clock, process_memory
from bsrbench.harness.meters.allocator_events import allocator_rise
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.profiler.clock_pass import clock_pass
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.memory_pass import memory_pass
from bsrbench.harness.profiler.process_pass import process_pass
from bsrbench.harness.training.kept_storages import storages, total_bytes
from bsrbench.methods import load
from bsrbench.methods.parts import packed_operators

MIB = 2**20
KERNEL_GRAIN = MIB  # what the kernel's mark may miss or add: pages, stacks, small blocks


def allocate(mebibytes):
    return torch.empty(mebibytes * MIB, dtype=torch.uint8).fill_(1)


def up_and_down():
    """Hold 4 MiB, then 4 + 8, then 4 + 2: the peak is 12 MiB."""
    kept = allocate(4)
    del_me = allocate(8)
    del del_me
    return kept, allocate(2)


def test_counted_and_allocated_see_a_known_peak_to_the_byte():
    with LiveBytes() as live:
        up_and_down()

    assert live.peak == 12 * MIB
    assert allocator_rise(up_and_down) == 12 * MIB


KERNEL_PROBE = """
import torch
from bsrbench.harness.meters import process_memory
MIB = 2**20
def up_and_down():
    kept, gone = (torch.empty(n * MIB, dtype=torch.uint8).fill_(1) for n in (4, 8))
    del gone
    return kept, torch.empty(2 * MIB, dtype=torch.uint8).fill_(1)
process_memory.pin_malloc()
up_and_down()  # the code itself becomes resident the first time
process_memory.reset_high_water()
before = process_memory.resident_bytes()
up_and_down()
print(process_memory.high_water_bytes() - before)
"""


def test_the_kernel_sees_a_known_peak():
    """In a fresh process: an old one has free memory that it need not ask the kernel for."""
    command = [sys.executable, "-c", KERNEL_PROBE]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert int(said) == pytest.approx(12 * MIB, abs=KERNEL_GRAIN)


def test_counted_counts_a_storage_once_however_it_is_seen():
    with LiveBytes() as live:
        x = torch.ones(1000)
        x.view(10, 100).t()[2:].add_(1)
        same = x.detach()
        live.watch([x, same, x[5:]], Category.INPUTS)

        assert live.now == 4000
    assert total_bytes(storages([x, same, x[5:]])) == 4000


def test_counted_counts_one_device_where_it_is_told_to():
    """Tensors without numbers stand for those of another device."""
    with LiveBytes(device="meta") as live:
        here, there = torch.ones(1000), torch.ones(500, device="meta")
        live.watch([here, there], Category.INPUTS)
        moved = there.double()

        assert live.now == 500 * 4 + 500 * 8
    del here, there, moved


def test_counted_forgets_what_died():
    with LiveBytes() as live:
        x = torch.ones(1000)
        del x

        assert (live.now, live.peak) == (0, 4000)


def test_counted_sees_tensors_kept_by_hooks_and_custom_functions():
    class Keeper(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.kept = x.to(torch.float64)  # not through save_for_backward
            return x.clone()

        @staticmethod
        def backward(_, gradient):
            return gradient

    x = torch.ones(1000, requires_grad=True)
    with LiveBytes() as live:
        output = Keeper.apply(x)

        assert live.now == 8000 + 4000
    del output


HIDDEN_BYTES = 1024  # scalars that autograd makes outside any operator


ALONE = [(method, {}) for method in ("full", "head", "bias", "lora", "int8", "checkpoint", "bsr")]
OTHERWISE = [
    (method, changes)
    for method in ("full", "int8", "bsr")
    for changes in ({"micro_batch": 1}, {"precision": "bf16"})
]


@pytest.mark.parametrize(("method", "changes"), [*ALONE, *OTHERWISE], ids=str)
def test_counted_and_allocated_agree_on_a_training_step(method, changes, make_deep_spec):
    """Workspaces inside operators explain the difference to the byte."""
    reading = memory_pass(make_deep_spec(method, optimizer="adamw", **changes), load)
    counted = reading.measurements["peak_counted_bytes"]
    allocated = reading.measurements["peak_allocated_bytes"]

    assert reading.notes == []
    assert counted <= allocated
    assert abs(reading.detail["allocated"]["unexplained_bytes"]) <= HIDDEN_BYTES


def test_a_leak_between_steps_is_noted(make_spec):
    leaked = []

    def leaking(name, **options):
        method = load(name, **options)
        object.__setattr__(method, "step_done", lambda: leaked.append(torch.ones(10)))
        return method

    assert memory_pass(make_spec(), leaking).notes == [
        "steps leave tensors behind: 40 and then 40 bytes"
    ]


def test_the_process_needs_what_was_allocated_and_little_more(make_deep_spec, launcher):
    """Buffers of libraries and small blocks come on top: at most 40 MiB, at least nothing."""
    spec = make_deep_spec("full", batch=8, image_size=112)
    allocated, seen = (
        launcher.perform(name, spec).reading["measurements"][metric]
        for name, metric in (
            ("memory", "peak_allocated_bytes"),
            ("process", "peak_process_bytes"),
        )
    )

    assert 0.98 * allocated < seen < allocated + 40 * MIB


def test_what_proc_does_not_show_is_missing_with_a_reason(make_spec, monkeypatch, tmp_path):
    monkeypatch.setattr(process_memory, "CLEAR_REFS", tmp_path / "gone" / "clear_refs")
    reading = process_pass(make_spec(), load)

    assert reading.measurements == {}
    assert "cannot be written" in reading.missing["peak_process_bytes"]


def closed_form_macs(model, tokens):
    """Multiply-adds of a ViT's forward pass, from its dimensions and its tokens after blocks."""
    dim, patch = model.embed_dim, model.patch_embed.patch_size[0]
    patches = model.patch_embed.num_patches
    macs = patches * 3 * patch**2 * dim + dim * model.num_classes
    for before, after in zip((patches + 1, *tokens), tokens, strict=False):
        macs += before * 4 * dim**2 + 2 * before**2 * dim + after * 8 * dim**2
        if after < before:
            dropped = before - 1 - (after - 2)
            macs += dropped * dim  # the weighted sum of the dropped
    return macs


@pytest.mark.parametrize("method", ["full", "bsr"])
def test_flops_of_a_forward_pass_equal_the_closed_form(method, make_vit, batch):
    model = load(method).prepare(make_vit())
    with StepFlops() as flops:
        model(batch[0])
    expected = 2 * 16 * closed_form_macs(model, load(method).tokens(17))

    assert flops.by_phase == {"forward": expected}


def test_flops_agree_with_fvcore_where_fvcore_can_count(make_vit, batch):
    """Fvcore counts multiply-adds, and knows attention only in its parts."""
    model = make_vit().eval()
    for block in model.blocks:
        block.attn.fused_attn = False
    with torch.no_grad(), StepFlops() as flops:
        model(batch[0])
    counted = FlopCountAnalysis(model, batch[0]).unsupported_ops_warnings(False).by_operator()

    assert flops.by_phase["forward"] == 2 * sum(
        count for name, count in counted.items() if name in {"conv", "linear", "matmul", "addmm"}
    )


def test_flops_of_a_step_with_fused_attention(make_vit, batch):
    """Backward is twice forward but for the first product (images need no gradient) and attention.

    The fused kernel's backward does 5 products where its forward did 2: the scores again.
    """
    model = make_vit()
    dim, tokens, images, blocks = 32, 17, 16, 12
    patches = 2 * images * 16 * 3 * 64 * dim
    attention = 2 * images * blocks * 2 * tokens**2 * dim
    with StepFlops() as flops:
        output = model(batch[0]).sum()
        flops.enter_phase("backward")
        output.backward()
    forward = flops.by_phase["forward"]

    assert flops.by_phase["backward"] == 2 * (forward - patches - attention) + patches + (
        attention * 5 // 2
    )


@pytest.mark.parametrize("kernel", ["efficient", "flash", "cudnn"])
def test_flops_of_cudas_attention_kernels_are_counted(kernel):
    """Two products forward, five backward (the scores again), of 2 FLOP a multiply-add.

    On device meta the operators have their shapes and run nothing.
    """
    q = torch.empty(2, 6, 17, 64, device="meta", dtype=torch.float16)
    product = 2 * 2 * 6 * 17 * 17 * 64
    forward = getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}_attention")
    backward = getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}_attention_backward")
    with StepFlops() as flops:
        made = forward(q, q, q) if kernel == "flash" else forward(q, q, q, None, True)
        flops.enter_phase("backward")
        backward(*arguments_of(backward, q, made))

    assert flops.by_phase == {"forward": 2 * product, "backward": 5 * product}


def arguments_of(backward, q, made):
    """Return a valid call's arguments by their names; on meta only their shapes matter."""
    shaped = {"grad_out": q, "grad_out_": q, "query": q, "key": q, "value": q, "out": made[0]}
    plain = {"dropout_p": 0.0, "is_causal": False, "max_q": 17, "max_k": 17}
    plain |= {"grad_input_mask": [True, True, True, False], "logsumexp": made[1]}
    plain |= {"attn_bias": None, "cum_seq_q": None, "cum_seq_k": None}
    seed = torch.empty((), device="meta", dtype=torch.int64)
    names = [a.name for a in backward.default._schema.arguments if not a.kwarg_only]
    return [(shaped | plain).get(name, seed) for name in names]


def test_flops_list_what_they_did_not_count():
    with StepFlops() as flops:
        torch.ones(3).exp().view(3, 1)

    assert flops.uncounted == {"aten.ones": 1, "aten.exp": 1}
    assert flops.uncounted_bytes == {"aten.ones": 12, "aten.exp": 24}  # read and written


@pytest.mark.parametrize("name", ["addmm", "baddbmm"])
def test_a_product_in_place_counts_as_one_that_is_not(name):
    left, right, total = torch.ones(4, 2, 3), torch.ones(4, 3, 5), torch.zeros(4, 2, 5)
    given = [total, left, right] if name == "baddbmm" else [total[0], left[0], right[0]]
    counted = []
    for ending in ("", "_"):
        with StepFlops() as flops:
            getattr(given[0], name + ending)(*given[1:])
        counted.append(sum(flops.by_phase.values()))

    assert counted == [2 * given[0].numel() * 3] * 2


def test_a_product_that_is_not_counted_is_told():
    with StepFlops() as flops:
        torch.mv(torch.ones(2, 3), torch.ones(3)).neg_()

    assert flops.overlooked() == [
        "not counted, though by its name it multiplies: aten.mv (1 calls); the FLOPs are too few"
    ]


@pytest.mark.parametrize("method", ["bsr", "int8", "sparse", "int4", "checkpoint", "bsr+int8"])
def test_flops_do_not_depend_on_how_a_gradient_is_summed(method, make_six_spec, monkeypatch):
    """In pieces or at once, by running and by predicting: the same multiply-adds."""
    spec = make_six_spec(method, batch=4)
    found = []
    for size in (1, 1 << 30):
        monkeypatch.setattr(packed_operators.chunks, "__defaults__", (size,))
        found += [flop_pass(spec, load), predict(spec, load)]

    assert len({reading.measurements["step_flop"] for reading in found}) == 1
    assert not any("not counted" in note for reading in found for note in reading.notes)


def test_the_flop_pass_observes_parameters_and_tokens(make_deep_spec):
    spec = make_deep_spec("bsr")
    read = flop_pass(spec, load).measurements

    assert read["tokens_after_block"] == list(load("bsr").tokens(17))
    assert read["trained_parameters"] < read["total_parameters"]
    assert read["forward_flop"] < read["step_flop"] < 3 * read["forward_flop"]


def test_the_clock_synchronises_around_every_sample():
    events = []
    samples = phase_clock.seconds_each(
        lambda: events.append("run"), 2, lambda: events.append("wait")
    )

    assert events == ["wait", "run", "wait"] * 2
    assert len(samples) == 2
    assert all(sample > 0 for sample in samples)


def test_the_clock_pass_runs_with_no_meter_attached(make_spec):
    """Nothing of ours or torch's watches operators or modules while time is taken."""
    seen, models = [], []

    def spying(name, **options):
        method = load(name, **options)
        prepare = type(method).prepare
        object.__setattr__(method, "prepare", lambda m: models.append(m) or prepare(method, m))
        object.__setattr__(method, "step_done", lambda: seen.append(attached(models[0])))
        return method

    clock_pass(make_spec(), spying)

    assert len(seen) >= 4  # warm-up, steps, phases
    assert set(seen) == {(None, False, 0)}


def attached(model):
    """Return the operator mode, whether the profiler runs, and how many hooks modules have."""
    hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )
    return _get_current_dispatch_mode(), torch.autograd._profiler_enabled(), hooks


def test_all_passes_but_the_clock_run_nine_steps(make_spec):
    """Memory 5, process 3, FLOPs 1."""
    steps = []

    def counting(name, **options):
        method = load(name, **options)
        object.__setattr__(method, "step_done", lambda: steps.append(1))
        return method

    for one_pass in (memory_pass, process_pass, flop_pass):
        one_pass(make_spec(), counting)

    assert len(steps) == 9


def test_module_hooks_of_the_flop_pass_are_gone_afterwards(make_spec):
    models = []

    def remembering(name, **options):
        method = load(name, **options)
        prepare = type(method).prepare
        object.__setattr__(method, "prepare", lambda m: models.append(m) or prepare(method, m))
        return method

    flop_pass(make_spec(), remembering)

    assert not any(
        module._forward_hooks for module in models[0].modules() if isinstance(module, nn.Module)
    )
