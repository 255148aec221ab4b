"""BAdam and LISA: what trains at which step, and the same training done the obvious way."""

from collections import Counter
from itertools import combinations

import pytest
import torch
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.conformance.subject import tiny_model
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.method import Unsupported
from bsrbench.harness.predict.step_cost import fake_trial, step_cost
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.kept_storages import census
from bsrbench.harness.training.training_loop import train
from bsrbench.harness.workload import data

DEPTH = 6
RATE = 1e-2


def names_that_train(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def states(method, model, steps, seed=0):
    return [method.state_at(step, seed, model) for step in range(steps)]


def test_badam_goes_through_the_blocks_in_order():
    model = tiny_model(depth=3)
    up, down = (
        methods.load("badam", steps=2, order=order) for order in ("ascending", "descending")
    )

    assert states(up, model, 8) == [(0,), (0,), (1,), (1,), (2,), (2,), (0,), (0,)]
    assert states(down, model, 6) == [(2,), (2,), (1,), (1,), (0,), (0,)]


def test_badam_draws_another_order_of_all_blocks_in_each_cycle():
    model, method = tiny_model(), methods.load("badam", steps=1)
    drawn = states(method, model, 24)

    assert sorted(drawn[:12]) == sorted(drawn[12:]) == [(block,) for block in range(12)]
    assert drawn[:12] != drawn[12:]
    assert drawn == states(method, model, 24)
    assert drawn != states(method, model, 24, seed=1)


def test_badam_trains_a_block_and_the_head():
    model, method = tiny_model(), methods.load("badam")
    method.prepare(model)
    method.enter(model, (4,))

    names = names_that_train(model)
    assert {name for name in names if not name.startswith("blocks.4.")} == {
        "head.weight",
        "head.bias",
    }
    assert len(names) == 2 + len(list(model.blocks[4].parameters()))


def test_lisa_draws_each_set_equally_often():
    """1,000 draws of 2 of 4 blocks: 6 sets, each with 167 +- 12."""
    model, method = tiny_model(depth=4), methods.load("lisa", steps=1)
    drawn = Counter(states(method, model, 1000))

    assert set(drawn) == set(combinations(range(4), 2))
    assert all(117 < count < 217 for count in drawn.values())


def test_lisa_trains_everything_outside_the_blocks():
    model, method = tiny_model(), methods.load("lisa", blocks=1)
    method.prepare(model)
    method.enter(model, (0,))

    frozen = {name for name, _ in model.named_parameters()} - names_that_train(model)
    assert frozen == {
        name
        for name, _ in model.named_parameters()
        if name.split(".")[:2] in [["blocks", str(b)] for b in range(1, 12)]
    }


def cost_in(spec, state):
    """Return the FLOPs and the peak of a fake step in a state, which a job enters alone."""
    with census() as kept, fake_trial(spec, methods.load, kept) as job:
        job.current.enter(state)
        batch = torch.empty(4, 3, 64, 64), torch.empty(4, dtype=torch.int64)
        counted_step(job, batch)
        return counted_step(job, batch).peak


def test_the_largest_peak_of_lisa_over_all_sets_is_among_the_measured_ones(make_spec):
    spec = make_spec("lisa", options={"blocks": 2})
    peaks = {state: cost_in(spec, state) for state in combinations(range(DEPTH), 2)}
    measured = [tuple(sorted((b, (b + 1) % DEPTH))) for b in range(DEPTH)]

    assert max(peaks.values()) == max(peaks[state] for state in measured)
    assert step_cost(spec, methods.load).peak_bytes == max(peaks.values())


@pytest.mark.parametrize("method", ["lisa", "tome+lisa"])
def test_the_mean_flops_of_lisa_are_those_of_all_sets(method, make_spec):
    """With dropped tokens blocks cost different FLOPs, so the mean is not that of any one set."""
    spec = make_spec(method)
    flops = []
    with census() as kept, fake_trial(spec, methods.load, kept) as job:
        batch = torch.empty(4, 3, 64, 64), torch.empty(4, dtype=torch.int64)
        for state in combinations(range(DEPTH), 2):
            job.current.enter(state)
            with StepFlops() as counted:
                counted_step(job, batch)
            flops.append(sum(counted.by_phase.values()))

    assert step_cost(spec, methods.load).step_flop == sum(flops) // len(flops)


@pytest.mark.parametrize("method", ["badam", "lisa"])
def test_a_training_is_that_of_new_optimizers_at_each_change(method, make_spec):
    """The obvious way: at each change a new AdamW, into which the state of shared weights goes."""
    training = Training(steps=7, learning_rate=RATE, warmup_steps=0, final_learning_rate=RATE)
    spec = make_spec(method, options={"steps": 2}, training=training, optimizer="adamw")
    images = (data.load("noise", 5, 0),)
    ours = begin(spec, methods.load)
    batches = seen_batches(ours, images, training)

    theirs = begin(spec, methods.load)
    model, chosen = theirs.model, theirs.method
    kept, before, optimizer = {}, None, None
    for step, (pictures, labels) in enumerate(batches):
        state = chosen.state_at(step, spec.seed, model)
        if state != before:
            chosen.enter(model, state)
            trained = [p for p in model.parameters() if p.requires_grad]
            kept = {p: s for p, s in kept.items() if any(p is q for q in trained)}
            optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)
            optimizer.state.update(kept)
            before = state
        cross_entropy(model(pictures), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        kept = dict(optimizer.state)

    for (name, one), other in zip(ours.model.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other), name


def seen_batches(job, images, training):
    """Train, and return the batches that the model got."""
    pictures, labels = [], []
    hook = job.model.register_forward_pre_hook(lambda _, given: pictures.append(given[0].clone()))
    loss = torch.nn.functional.cross_entropy

    def noting(logits, targets, **more):
        labels.append(targets.clone())
        return loss(logits, targets, **more)

    torch.nn.functional.cross_entropy = noting
    try:
        train(job, images, training)
    finally:
        torch.nn.functional.cross_entropy = loss
        hook.remove()
    return list(zip(pictures, labels, strict=True))


def test_the_optimizer_holds_the_state_of_one_block_and_the_head(make_spec):
    spec = make_spec("badam", optimizer="adamw")
    job, batch = job_and_batch(spec, methods.load, 1)
    head = {id(p) for p in job.model.head.parameters()}
    steps = {id(p): s["step"].clone() for o in job.optimizers for p, s in o.state.items()}
    job.current.enter((3,))
    with_state = {id(p) for optimizer in job.optimizers for p in optimizer.state}

    assert head < set(steps)
    assert with_state == head
    assert batch[0].shape[0] == 4


def test_a_record_says_what_a_training_has_trained(make_spec):
    training = Training(steps=5, learning_rate=1e-3)
    spec = make_spec("badam", options={"steps": 2, "order": "ascending"}, training=training)
    read = training_pass(spec, methods.load)
    text = " ".join(note.text for note in read.notes)

    assert "what trains changed 2 times in 5 steps" in text
    assert "a cycle of the method has 12 steps, of which 5 were done" in text
    assert "these blocks never trained: 3, 4, 5" in text
    block = 10 * 64**2 + 12 * 64  # its MLP is three times as wide
    assert read.measurements["trained_parameters"] == block + 5 * 65


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("badam", {"steps": 0}, "steps 0 must be at least 1"),
        ("badam", {"order": "sideways"}, "order 'sideways' must be one of random, ascending"),
        ("lisa", {"blocks": 0}, "blocks 0 must be at least 1"),
        ("lisa", {"steps": -1}, "steps -1 must be at least 1"),
    ],
)
def test_bad_options_are_named(method, options, said):
    with pytest.raises(BadInput, match=said):
        methods.load(method, **options)


def test_more_blocks_than_the_model_has_are_unsupported():
    with pytest.raises(Unsupported, match="blocks = 13, but the model has only 12 blocks"):
        methods.load("lisa", blocks=13).prepare(tiny_model())


@pytest.mark.parametrize("second", ["lora", "bsr", "lisa"])
def test_two_methods_that_select_weights_are_no_pair(second):
    with pytest.raises(Unsupported, match="not defined"):
        methods.load(f"badam+{second}").prepare(tiny_model())


def test_nothing_is_left_to_store_where_every_block_trains_at_times():
    with pytest.raises(Unsupported, match=r"nothing|frozen"):
        methods.load("lisa+nf4").prepare(tiny_model())
