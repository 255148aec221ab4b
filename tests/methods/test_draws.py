"""What is computed again draws what it drew before, whatever draws, and nothing else."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from timm.layers import PatchDropoutWithIndices
from torch import nn
from torch.nn import functional as F

from bsrbench import methods
from bsrbench.harness.conformance.subject import tiny_model
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.experts import take_turns
from bsrbench.harness.predict.fake_step import fake_numbers
from bsrbench.methods.parts.random_draws import DrawsAgain, RandomDraws

STATE = torch.get_rng_state().numel()  # 5,056 bytes


class Drops(nn.Module):
    """Drops by a function, not by a module of torch's."""

    def forward(self, x):
        return F.dropout(x, 0.3, self.training)


class Noise(nn.Module):
    """Multiplies by numbers drawn from torch's generator, or from one of its own."""

    def __init__(self, seed=None):
        super().__init__()
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def forward(self, x):
        noise = torch.rand(x.shape, generator=self.generator) if self.generator else None
        return x * (torch.rand_like(x) if noise is None else noise)


def in_blocks(place, make):
    """Return what puts a new module into a place of every block of a model."""

    def put(model):
        for index, block in enumerate(model.blocks):
            owner, _, name = place.rpartition(".")
            setattr(block.get_submodule(owner), name, make(index))

    return put


def nothing(_):
    """Leave the model as it is."""


def put_beside_attention(model):
    """Drop by a function what timm's dropout of attention would drop; it holds the matrix then."""
    in_blocks("attn.attn_drop", lambda _: Drops())(model)
    for block in model.blocks:
        block.attn.fused_attn = False


# What the model is made with, and what is put into it then.
DRAWERS = {
    "DropPath": ({"drop_path_rate": 0.5}, nothing),
    "nn.Dropout": ({"proj_drop_rate": 0.3}, nothing),
    "dropout of attention": ({"attn_drop_rate": 0.3}, nothing),
    "dropout of patches": ({"patch_drop_rate": 0.25}, nothing),
    "RReLU": ({"act_layer": nn.RReLU}, nothing),
    "F.dropout": ({}, in_blocks("mlp.drop1", lambda _: Drops())),
    "F.dropout at the end": ({}, in_blocks("mlp.drop2", lambda _: Drops())),
    "F.dropout of attention": ({}, put_beside_attention),
    "rand_like": ({}, in_blocks("ls1", lambda _: Noise())),
    "a generator of its own": ({}, in_blocks("ls2", Noise)),
    "dropout of tokens": ({}, in_blocks("ls1", lambda _: WithoutSome())),
}


class WithoutSome(nn.Module):
    """Puts zeros in the place of tokens that timm's PatchDropout leaves out."""

    def __init__(self):
        super().__init__()
        self.drop = PatchDropoutWithIndices(0.5, num_prefix_tokens=1)

    def forward(self, x):
        if not self.training:
            return x
        left, places = self.drop(x)
        whole = torch.zeros_like(x[:, 1:])
        whole = whole.scatter(1, places.unsqueeze(-1).expand(-1, -1, x.shape[2]), left[:, 1:])
        return torch.cat([left[:, :1], whole], dim=1)


@pytest.fixture
def step(make_vit, batch):
    """Return what does a step of a method on a model that draws.

    It returns the gradients and the states of all generators after the step.
    """

    def run(name, drawer, options=None):
        changes, put = DRAWERS[drawer]
        model = make_vit(**changes)
        put(model)
        model = methods.load(name, **options or {}).prepare(model).train()
        torch.manual_seed(7)
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        own = [part.generator for part in model.modules() if getattr(part, "generator", None)]
        states = [torch.get_rng_state(), *(generator.get_state() for generator in own)]
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, states

    return run


def assert_alike(found, expected):
    """Gradients and states agree to the bit."""
    for ours, theirs in zip(found, expected, strict=True):
        keys = ours.keys() if isinstance(ours, dict) else range(len(ours))
        assert len(ours) == len(theirs)
        assert [key for key in keys if not torch.equal(ours[key], theirs[key])] == []


@pytest.mark.parametrize("drawer", DRAWERS)
@pytest.mark.parametrize("method", ["full", "bsr", "tome", "repnet", "ladder", "dtl", "vqt", "dyt"])
def test_checkpointing_draws_the_same_again(method, drawer, step):
    """Without recomputation gradients, and generators afterwards, are the same."""
    checkpointed = "checkpoint" if method == "full" else f"{method}+checkpoint"

    assert_alike(step(checkpointed, drawer), step(method, drawer))


@pytest.mark.cuda
@pytest.mark.parametrize("drawer", ["DropPath", "nn.Dropout", "dropout of attention", "rand_like"])
def test_checkpointing_draws_the_same_again_on_a_gpu(drawer, make_vit, batch):
    """Fused attention's backward pass adds in any order: gradients agree but for rounding."""
    found = []
    for method in ("checkpoint", "full"):
        changes, put = DRAWERS[drawer]
        model = make_vit(**changes)
        put(model)
        model = methods.load(method).prepare(model).train().cuda()
        torch.manual_seed(7)
        F.cross_entropy(model(batch[0].cuda()), batch[1].cuda()).backward()
        found.append(([p.grad for p in model.parameters()], torch.cuda.get_rng_state()))

    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][0], found[1][0])


@pytest.mark.parametrize("drawer", DRAWERS)
@pytest.mark.parametrize("method", ["bsr", "repnet"])
def test_what_a_method_itself_computes_again_draws_the_same(method, drawer, step, monkeypatch):
    """Autograd's own way, which keeps GELU's output and whatever is dropped of it, agrees."""
    found = step(method, drawer)
    name = {"bsr": "recompute_gelu", "repnet": "recompute_gelu_of"}[method]
    monkeypatch.setattr(getattr(methods, method), name, lambda *_: None)
    gradients, states = step(method, drawer)

    assert all(map(torch.equal, found[1], states))
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, gradients[name])


@pytest.mark.parametrize("drawer", DRAWERS)
def test_blocks_that_could_drop_tokens_draw_as_the_model_does(drawer, step):
    """Of all tokens kept, a method's own way through blocks and attention is the model's."""
    gradients, states = step("evit", drawer, {"keep_rate": 1.0})
    expected, after = step("full", drawer)

    assert all(map(torch.equal, states, after))
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize("name", ["int8", "bsr+int8", "sparse"])
def test_packed_attention_refuses_what_it_would_leave_out(name, make_vit):
    model = make_vit()
    put_beside_attention(model)

    with pytest.raises(Unsupported, match="does not support Drops on the softmax of attention"):
        methods.load(name).prepare(model)


def test_experts_refuse_what_they_would_leave_out(make_vit):
    model = make_vit()
    in_blocks("mlp.drop1", lambda _: Drops())(model)

    with pytest.raises(Unsupported, match="without dropout"):
        take_turns(model, (5, 5), (1,), experts=4, top_k=2)


def test_a_graph_that_is_gone_through_twice_draws_the_same_twice(make_vit, batch):
    changes, _ = DRAWERS["DropPath"]
    model = methods.load("checkpoint").prepare(make_vit(**changes)).train()
    loss = F.cross_entropy(model(batch[0]), batch[1])
    weights = list(model.parameters())
    first, second = (torch.autograd.grad(loss, weights, retain_graph=True) for _ in range(2))

    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("numbers", [lambda _: nullcontext(), fake_numbers], ids=["real", "fake"])
@pytest.mark.parametrize(
    ("drawer", "training", "expected"),
    [
        # The first block's rate is 0, the last is not run again: it keeps two factors an image.
        ("DropPath", True, 10 * STATE + 2 * 16 * 4),
        ("DropPath", False, 0),
        ("rand_like", True, 11 * STATE + 16 * 17 * 32 * 4),  # the last block's noise
    ],
)
def test_states_are_kept_of_blocks_that_draw_and_are_counted(drawer, training, expected, numbers):
    """A block that does not draw keeps its input alone; shapes without numbers tell the same."""
    held = []
    for seen in (None, drawer):
        changes, put = DRAWERS.get(seen, ({}, nothing))
        model = tiny_model(**changes)
        put(model)
        model = methods.load("checkpoint").prepare(model).train(training)
        with numbers(model):
            images = torch.ones(16, 3, 32, 32)
            with LiveBytes() as live:
                live.watch([*model.parameters(), images], Category.INPUTS)
                start = live.now
                logits = model(images)
                held.append(live.now - start)
            del logits

    assert held[1] - held[0] == expected


def test_a_generator_of_another_device_is_taken_back_and_left_as_it_was(monkeypatch):
    """The device is not here: its module and its generator are a counter."""
    drawn = SimpleNamespace(number=3)

    class Entered:
        def __init__(self, index):
            assert index == 1

        def __enter__(self):
            """Do nothing."""

        def __exit__(self, *_):
            """Do nothing."""

    device = SimpleNamespace(
        device=Entered,
        get_rng_state=lambda: torch.tensor([drawn.number], dtype=torch.uint8),
        set_rng_state=lambda state: setattr(drawn, "number", int(state)),
    )
    monkeypatch.setattr(torch, "get_device_module", lambda _: device)
    block = SimpleNamespace(
        parameters=lambda: [SimpleNamespace(device=torch.device("cuda", 1))], modules=list
    )
    run = RandomDraws(block)
    with run:
        drawn.number += 2
    drawn.number += 4
    with DrawsAgain(run):
        again = drawn.number

    assert (again, drawn.number) == (3, 9)
    assert len(run.kept) == 1
