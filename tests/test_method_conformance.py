"""Promises every method keeps. A new file in methods/ is tested here unasked."""

import dataclasses
import io
import itertools
import json

import pytest
import torch
from torch.nn.functional import cross_entropy

import methods
from harness.meters.counted import Category, LiveBytes
from harness.meters.flops import StepFlops
from harness.method import Composed, Kind, Method, Unsupported

ROUNDING = 1e-5  # fp32 noise between two orders of the same sums
SLACK = 4  # a declared error bound is at most so many times what is seen
DIRECTIONS = 48  # random directions: the error's estimate is good to about a fifth
DIRECTIONS_IF_EXACT = 4  # that something is wrong at all, any one direction shows
NUDGE = 1e-6

ALONE = methods.names()
NAMED_PAIRS = [
    "bsr+int8",
    "bsr+int4",
    "bsr+checkpoint",
    "bsr+sparse",
    "bsr+lora",
    "lora+int8",
    "lora+checkpoint",
    "evit+int8",
    "bias+int8",
]


def one_pair_of_each_two_kinds():
    """Return a composition for every two different kinds, made of the first methods found."""
    first = {}
    for name in ALONE:
        first.setdefault(methods.find(name).kinds, name)
    pairs = itertools.combinations(first.items(), 2)
    return [f"{a}+{b}" for (kinds_a, a), (kinds_b, b) in pairs if not kinds_a & kinds_b]


COMPOSED = sorted({*NAMED_PAIRS, *one_pair_of_each_two_kinds()})
every_method = pytest.mark.parametrize("name", [*ALONE, *COMPOSED])
each_alone = pytest.mark.parametrize("name", ALONE)
compiled = [name for name in ALONE if methods.find(name).compiles]
telling = [name for name in ALONE if name != "full"]  # full changes nothing that could tell


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def loss_of(model, batch):
    images, labels = batch
    return cross_entropy(model(images), labels)


def in_double(batch):
    return batch[0].double(), batch[1]


@each_alone
def test_describes_itself(name):
    """A method has a card, a source and kinds, and its options survive JSON."""
    cls = methods.find(name)
    options = json.loads(json.dumps(dataclasses.asdict(cls())))

    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}(")  # what dataclasses write themselves
    assert cls.source
    assert cls.kinds <= frozenset(Kind)
    assert cls() == methods.load(name, **options)


@each_alone
def test_documents_every_option(name):
    """The card names each option."""
    cls = methods.find(name)

    for field in dataclasses.fields(cls):
        assert f"{field.name}:" in cls.__doc__


@each_alone
def test_card_says_what_it_stores_approximates_and_does_not_save(name):
    """The card has these three sentences, and the source names a section where it is a paper."""
    cls = methods.find(name)
    card = " ".join(cls.__doc__.split())

    for said in ("Stores", "pproximates", "oes not save"):
        assert said in card
    where = ("section", "abstract", "official code")
    assert cls.source.startswith("baseline") or any(word in cls.source for word in where)


@each_alone
def test_pairs_are_on_the_card(name):
    """A pair of methods of one kind is defined in words, and both methods exist."""
    cls = methods.find(name)

    assert cls.name() == name
    for first in cls.refines:
        assert first in ALONE
        assert f"``{first}+{name}``" in cls.__doc__


@every_method
def test_keeps_the_parameters(name, make_vit):
    """prepare() wraps or freezes parameters; it neither copies nor loses one."""
    model = make_vit()
    before = set(model.parameters())

    assert before <= set(methods.load(name).prepare(model).parameters())


@every_method
def test_forward_promise(name, make_vit, batch):
    """Logits equal the untouched model's exactly when the method says so."""
    method = methods.load(name)
    logits, plain = method.prepare(make_vit())(batch[0]), make_vit()(batch[0])

    assert plain.shape == logits.shape
    assert method.exact_forward == torch.allclose(logits, plain, atol=ROUNDING)


@every_method
def test_gradient_promise(name, make_vit, batch):
    """The gradient's error against differences of the method's own loss lies within its bound.

    For directions v of independent normal numbers the mean of ((g - g') v)^2 is |g - g'|^2.
    """
    method, batch = methods.load(name), in_double(batch)
    model = method.prepare(make_vit().double())
    loss_of(model, batch).backward()
    parameters = trained(model)
    generator = torch.Generator().manual_seed(2)
    wrong = right = 0.0
    for _ in range(DIRECTIONS if method.gradient_error else DIRECTIONS_IF_EXACT):
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        slope = _difference(model, batch, parameters, direction)
        ours = sum(float((p.grad * d).sum()) for p, d in zip(parameters, direction, strict=True))
        wrong += (ours - slope) ** 2
        right += slope**2
    error = (wrong / right) ** 0.5

    if method.gradient_error == 0:
        assert error < 1e-6
    else:
        assert error <= method.gradient_error
        assert isinstance(method, Composed) or error >= method.gradient_error / SLACK


def _difference(model, batch, parameters, direction):
    """Return the slope of the loss along a direction, by a central difference."""
    ends = []
    with torch.no_grad():
        for way in (NUDGE, -2 * NUDGE):
            for parameter, step in zip(parameters, direction, strict=True):
                parameter.add_(step, alpha=way)
            ends.append(float(loss_of(model, batch)))
        for parameter, step in zip(parameters, direction, strict=True):
            parameter.add_(step, alpha=NUDGE)
    return (ends[0] - ends[1]) / (2 * NUDGE)


@every_method
def test_ten_steps_learn_and_move_the_trained_and_only_those(name, make_vit, batch):
    """Ten steps on one batch take a twentieth off the loss and move each trained parameter.

    No frozen one gets a gradient or changes by a bit.
    """
    method = methods.load(name)
    model = method.prepare(make_vit())
    before = {p: p.detach().clone() for p in model.parameters()}
    # Without decay, so that only a gradient moves a parameter.
    optimizer = torch.optim.AdamW(trained(model), lr=1e-2, weight_decay=0.0)
    losses = []
    for _ in range(10):
        loss = loss_of(model, batch)
        loss.backward()
        assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
        optimizer.step()
        method.step_done()
        optimizer.zero_grad()
        losses.append(loss.item())

    assert trained(model)
    assert losses[-1] < 0.95 * losses[0]
    for p in model.parameters():
        assert p.requires_grad != torch.equal(before[p], p)


@every_method
def test_same_seed_same_gradients(name, make_vit, batch):
    """Two runs from one seed agree to the last bit."""
    runs = []
    for _ in range(2):
        model = methods.load(name).prepare(make_vit())
        torch.manual_seed(3)
        loss_of(model, batch).backward()
        runs.append(trained(model))

    for a, b in zip(*runs, strict=True):
        assert torch.equal(a.grad, b.grad)


@every_method
def test_holds_less_than_full_fine_tuning(name, make_vit, batch):
    """Between forward and backward fewer bytes are alive than under 'full', where promised."""

    def held_bytes(method: Method):
        model = method.prepare(make_vit())
        with LiveBytes() as live:
            live.watch([*model.parameters(), *batch], Category.INPUTS)
            start = live.now
            loss = loss_of(model, batch)  # keeps this graph alive while we read
            return live.now - start, loss

    method = methods.load(name)
    held, _ = held_bytes(method)
    full, _ = held_bytes(methods.load("full"))

    assert method.saves_over_full == (held < full)


@every_method
def test_passes_on_the_tokens_it_declares(name, make_vit, batch):
    """Each block's MLP sees as many tokens as tokens() says; FLOPs follow from them."""
    method = methods.load(name)
    model = make_vit()
    seen = []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda *call: seen.append(call[-1].shape[1]))
    prepared = method.prepare(model)
    with StepFlops() as flops:
        prepared(batch[0])
    declared = method.tokens(17)

    assert tuple(seen) == declared
    # LoRA of rank 8 on a width of 32 adds 8 %; anything a method adds is small beside the model.
    assert flops.by_phase["forward"] == pytest.approx(_forward_flop(declared), rel=0.1)


def _forward_flop(tokens, images=16, width=32):
    """Return 2 x multiply-adds of the tiny model: patches, blocks, head."""
    macs = 16 * 3 * 8 * 8 * width + 5 * width
    for before, after in zip((17, *tokens), tokens, strict=False):
        macs += before * 4 * width**2 + 2 * before**2 * width  # qkv, proj; scores, mixing
        macs += after * 8 * width**2  # the MLP comes after the dropping
    return 2 * images * macs


@every_method
@pytest.mark.parametrize("training", [True, False])
def test_runs_in_bf16_near_fp32(name, training, make_vit, batch):
    """Under autocast, in training and evaluation mode, logits stay near and gradients finite."""
    torch.manual_seed(0)
    model = methods.load(name).prepare(make_vit()).train(training)
    exact = model(batch[0])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(batch[0])
        loss = cross_entropy(rounded, batch[1])
    loss.backward()

    # bf16 keeps 8 bits; a token near the edge of what is kept may be chosen differently.
    assert torch.allclose(rounded.float(), exact, atol=0.2)
    for parameter in trained(model):
        assert parameter.grad.dtype == parameter.dtype
        assert torch.isfinite(parameter.grad).all()


@every_method
def test_state_dict_round_trip(name, make_vit, batch):
    """Saved weights, read from a file into another prepared model, give the same logits."""
    first = methods.load(name).prepare(make_vit(seed=0))
    second = methods.load(name).prepare(make_vit(seed=1))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))

    assert torch.equal(first(batch[0]), second(batch[0]))


@each_alone
def test_is_applied_once(name, make_vit):
    """Naming a method twice in a composition is an error before anything runs."""
    with pytest.raises(ValueError, match="twice"):
        methods.load(f"{name}+{name}")


@pytest.mark.parametrize("name", telling)
def test_says_that_a_model_is_prepared_already(name, make_vit):
    """Preparing a model twice is refused, and leaves what trains as it was."""
    model = methods.load(name).prepare(make_vit())
    before = [parameter.requires_grad for parameter in model.parameters()]

    with pytest.raises(Unsupported, match="already prepared"):
        methods.load(name).prepare(model)

    assert before == [parameter.requires_grad for parameter in model.parameters()]


@pytest.mark.parametrize("name", compiled)
def test_compiles_in_one_piece(name, make_vit, batch):
    """Where declared, the compiled model is one graph with the logits and gradients of eager.

    Blocks 3 to 7 stand for the twelve: tracing takes its time block by block, and those train,
    do not, drop tokens and do not.
    """
    eager = methods.load(name).prepare(make_vit())
    model = methods.load(name).prepare(make_vit())
    model.load_state_dict(eager.state_dict())  # what a method adds starts from random numbers
    for one in (eager, model):
        del one.blocks[8:], one.blocks[:3]
    torch.compiler.reset()
    whole = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    logits, expected = whole(batch[0]), eager(batch[0])
    cross_entropy(logits, batch[1]).backward()
    cross_entropy(expected, batch[1]).backward()

    torch.testing.assert_close(logits, expected)
    for ours, theirs in zip(trained(model), trained(eager), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
