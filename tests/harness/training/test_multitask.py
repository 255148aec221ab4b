"""Several tasks on one model: their turns, what is measured of them, what is refused."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.conformance.subject import tiny_model, trained
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.forward_macs import added, forward_macs
from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.experts import ExpertMlp, take_turns, task_of
from bsrbench.harness.model.task_heads import turns
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.suite_file import find, read
from bsrbench.harness.spec.trial_spec import Profile, Workload
from bsrbench.harness.training.evaluation import accuracies
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.training_step import optimizer_step, set_learning_rate, training_step
from bsrbench.harness.workload import models, tasks
from bsrbench.harness.workload.data.splits import InMemory
from bsrbench.methods import load

TASKS = ("digits", "noise")
MULTITASK = {"tasks": TASKS, "experts": 4, "top_k": 2}


@pytest.fixture
def make_multitask(make_spec):
    """Return a maker of specs of two tasks on a model of twelve blocks, three of them experts."""

    def make(method="full", multitask=MULTITASK, **changes):
        small = {"model": "deit_tiny_patch16_224", "image_size": 32, "batch": 2, "classes": None}
        return make_spec(method, **small | {"multitask": multitask} | changes)

    return make


@pytest.fixture
def make_moe():
    """Return a maker of tiny models with experts in blocks 3, 7 and 11 and heads of 5 and 3.

    Experts differ from each other, as after some steps, and have biases.
    """

    def make(dtype=torch.float32):
        model = tiny_model()
        take_turns(model, (5, 3), (3, 7, 11), 4, 2)
        for mixture in (part for part in model.modules() if isinstance(part, ExpertMlp)):
            for parameter in mixture.parameters():
                nn.init.normal_(parameter, std=0.2)
        return model.to(dtype)

    return make


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": ["digits", "digits"]}, "tasks names digits more than once"),
        ({"tasks": ["digits"]}, "at least 2 items"),
        (
            {"classes": [10]},
            r"more tasks than heads: 2 tasks \(digits, noise\) and 1 heads \(classes = \[10\]\)",
        ),
        ({"classes": [10, 10, 3]}, "more heads than tasks: 2 tasks .* and 3 heads"),
        ({"top_k": 5}, "top_k 5 is larger than the number of experts, 4"),
        ({"top_k": 0}, "greater than or equal to 1"),
        ({"experts": 1}, "greater than or equal to 2"),
        ({"expert_blocks": [3, 3]}, "expert_blocks names 3 more than once"),
        ({"expert_blocks": [-1]}, "greater than or equal to 0"),
        ({"gates": 3}, "Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_what_cannot_be_several_tasks_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Workload(model="test_vit", batch=2, multitask=MULTITASK | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "digits"}, r"multitask names its own data \(digits, noise\) and classes: leave"),
        ({"classes": 5}, "leave data and classes out"),
        ({"compiled_step": True}, "compiled_step is one graph, and with multitask each task"),
    ],
    ids=str,
)
def test_what_does_not_go_with_several_tasks_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Workload(model="test_vit", batch=2, multitask=MULTITASK, **changes)


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        ({"expert_blocks": [12]}, r"expert_blocks names blocks \[12\]; the model has 0 to 11"),
        ({"classes": [10, 7]}, ""),
        ({"classes": [9, 10]}, "'digits' has 10 classes, not 9"),
    ],
    ids=str,
)
def test_what_the_model_or_the_data_do_not_have_is_refused(workload, said, make_multitask):
    spec = make_multitask(multitask=MULTITASK | workload)
    if not said:  # noise has as many classes as asked
        assert tasks.classes(spec.workload) == (10, 7)
        return

    with pytest.raises(BadInput, match=said):
        models.outline(spec.workload, tasks.classes(spec.workload))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("test_vit", "expert_blocks is the paper.s choice for 12 blocks; the model has 6, so set"),
        ("resnet18", "ResNet cannot be given several tasks: ResNet is not one of timm's Vision"),
    ],
)
def test_a_model_that_cannot_take_experts_is_refused(model, said):
    workload = Workload(model=model, batch=2, multitask=MULTITASK)

    with pytest.raises(BadInput, match=said):
        models.outline(workload, (10, 10))


def test_a_mistake_in_a_suite_is_said_with_its_place(tmp_path, typed):
    file = tmp_path / "mine.toml"
    file.write_text(
        'seeds = [0]\n[workload]\nmodel = "test_vit"\nbatch = 2\n[workload.multitask]\n'
        'tasks = ["digits", "noise"]\nexperts = 4\ntop_k = 8\n[profile]\n'
        '[[methods]]\nmethod = "full"\n'
    )
    code, output = typed("run", file)

    assert code == 2
    assert "top_k 8 is larger than the number of experts, 4" in output.replace("\n", " ")


# ---- the step ----------------------------------------------------------------------------------


def manual_steps(spec, batches, rate):
    """Do the same steps with torch's plain optimizer, one turn after the other."""
    job = begin(spec, load)
    optimizer = torch.optim.SGD(trained(job.model), lr=rate, momentum=0.9, weight_decay=0.1)
    for images, labels in batches:
        for task, heads in enumerate((slice(0, 2), slice(2, 4))):
            job.turn.task = task
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(job.model(images[heads]), labels[heads]).backward()
            optimizer.step()
    return job


def test_each_task_has_an_optimizer_step_and_what_is_the_others_stays(make_multitask):
    """Gates and heads of the other task have no gradient in a turn: no decay, no momentum."""
    spec = make_multitask(weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(4, 3, 32, 32, generator=generator), torch.tensor([1, 2, 3, 4]))
        for _ in range(3)
    ]
    job = begin(spec, load)
    set_learning_rate(job, 0.05)
    for batch in batches:
        optimizer_step(job, *batch)
    expected = manual_steps(spec, batches, 0.05)

    for one, other in zip(job.model.parameters(), expected.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_loss_of_a_step_is_the_mean_over_tasks(make_multitask):
    """At a rate of 0 the second task's turn finds the weights that the first one's did."""
    job, (images, labels) = job_and_batch(make_multitask(), load)
    set_learning_rate(job, 0.0)
    batches = zip(turns(job.model), images.split(2), labels.split(2), strict=True)
    with torch.no_grad():
        losses = [cross_entropy(job.model(own), targets).item() for _, own, targets in batches]

    assert training_step(job, images, labels) == pytest.approx(sum(losses) / 2, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_optimizer_in_the_backward_pass_gives_the_same_bits(optimizer, make_multitask):
    jobs = []
    for within in (False, True):
        spec = make_multitask(optimizer=optimizer, optimizer_in_backward=within)
        job, batch = job_and_batch(spec, load)
        set_learning_rate(job, 0.01)
        for _ in range(2):
            training_step(job, *batch)
        jobs.append(job)
    after, within = jobs

    for one, other in zip(after.model.parameters(), within.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_micro_batches_give_the_same_step(make_multitask):
    found = []
    for micro_batch in (None, 1):
        job, batch = job_and_batch(make_multitask(micro_batch=micro_batch), load)
        set_learning_rate(job, 0.01)
        found.append((training_step(job, *batch), list(job.model.parameters())))
    (loss, whole), (same, parts) = found

    assert loss == pytest.approx(same, rel=1e-5)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_biases_of_experts_are_not_decayed_where_vectors_are_not(make_multitask):
    job = begin(make_multitask(weight_decay=0.1, decay_vectors=False), load)
    decayed = {
        id(parameter)
        for optimizer in job.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if group["weight_decay"]
    }
    names = {name for name, p in job.model.named_parameters() if id(p) in decayed}

    assert "blocks.3.mlp.fc1.weight" in names
    assert not {name for name in names if name.endswith("bias")}


def test_heads_and_gates_belong_to_their_tasks(make_moe):
    model = make_moe()
    owned = {name for name, p in model.named_parameters() if p in task_of(model)}

    assert owned == {
        *(f"head.{task}.{part}" for task in (0, 1) for part in ("weight", "bias")),
        *(f"blocks.{b}.mlp.gates.{task}.weight" for b in (3, 7, 11) for task in (0, 1)),
    }


# ---- what is measured --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "head", "bsr", "bsr+int8"])
def test_memory_and_flops_are_predicted_exactly(method, make_multitask):
    spec = make_multitask(method, optimizer="adamw", profile=Profile(rounds=0))
    job, batch = job_and_batch(spec, load)
    counted_step(job, batch)
    steady, found = counted_step(job, batch), flop_pass(spec, load)
    predicted = predict(spec, load)
    forward = found.measurements["forward_flop"]

    assert predicted.measurements["peak_estimated_bytes"] == steady.peak
    assert predicted.measurements["held_after_forward_bytes"] == steady.held_after_forward
    assert predicted.measurements["step_flop"] == found.measurements["step_flop"]
    assert 2 * found.measurements["forward_macs"] == forward
    assert 2 * predicted.measurements["forward_macs"] == forward
    assert found.notes == []


def test_only_the_experts_that_run_are_counted(make_moe):
    """17 tokens of width 32, each through 2 experts of 2 x 32 x 128, and a gate to 4."""
    image = torch.zeros(1, 3, 32, 32)
    dense, moe = tiny_model(), make_moe()
    (one, other) = (forward_macs(moe, image) for _ in turns(moe))
    beside = 3 * 17 * (2 * 32 * 128 + 32 * 4)  # in each of three blocks

    assert one.total == forward_macs(dense, image).total + beside
    assert other.total == one.total - 32 * 2  # a head of 3 instead of 5
    assert added([one, other]).total == one.total + other.total


def test_a_step_goes_through_the_images_of_every_task(make_multitask):
    workload = make_multitask().workload

    assert workload.step_images() == 4
    assert workload.tasks() == TASKS
    assert workload.data_name() == "digits + noise"


@pytest.fixture
def short():
    return Training(steps=2, learning_rate=1e-3, evaluate_every=1)


def test_accuracies_are_read_task_by_task(make_multitask, short):
    spec = make_multitask(training=short)
    found = training_pass(spec, load)
    by_task = found.measurements["accuracy_by_task"]

    assert len(by_task) == 2
    assert found.measurements["accuracy_top1"] == pytest.approx(sum(by_task) / 2)
    assert len(found.measurements["curve_accuracies"]) == 2
    assert set(found.facts["data"]) == set(TASKS)
    assert 0.5 <= found.measurements["busiest_experts_share"] <= 1  # 2 of 4 at least
    loads = found.detail["expert_loads"]["digits"]["blocks.3.mlp"]
    assert sum(loads) == pytest.approx(1)


def test_a_task_is_evaluated_with_its_own_head(make_multitask):
    spec = make_multitask(training=Training(steps=1, learning_rate=1e-3))
    job = begin(spec, load)
    with torch.no_grad():
        for task, heads in enumerate(job.model.head):
            heads.weight.zero_()
            heads.bias.copy_(torch.eye(10)[task])  # the first says 0, the second 1
    grey = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    splits = [InMemory(grey, torch.tensor(labels)) for labels in ([0, 0, 0, 1], [0, 0, 1, 2])]

    assert accuracies(job, splits) == [3 / 4, 1 / 4]


def test_a_gate_that_sends_all_tokens_to_the_same_experts_is_noted(
    make_multitask, short, monkeypatch
):
    """Of equal values topk takes the same ones for every token."""
    monkeypatch.setattr(nn.init, "uniform_", lambda weight, *_: nn.init.zeros_(weight))
    only = {"expert_blocks": [7]}
    found = training_pass(make_multitask("head", MULTITASK | only, training=short), load)

    assert found.measurements["busiest_experts_share"] == 1
    assert [note.rpartition(":")[0] for note in found.notes] == [
        f"the gate of task {task!r} in blocks.7.mlp sends 100 % of its tokens to the same 2 of 4 "
        "experts"
        for task in TASKS
    ]


def test_without_experts_the_model_is_shared_whole(make_multitask, short):
    spec = make_multitask(multitask={"tasks": TASKS, "expert_blocks": []}, training=short)
    found = training_pass(spec, load)

    assert len(found.measurements["accuracy_by_task"]) == 2
    assert "busiest_experts_share" not in found.measurements


# ---- methods -----------------------------------------------------------------------------------


def loss_over_tasks(model, images):
    model.zero_grad()
    for task in turns(model):
        labels = torch.arange(len(images)) % (5, 3)[task]
        cross_entropy(model(images), labels).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", methods.names())
def test_every_method_trains_with_experts_or_says_why_not(name, make_moe, images):
    model = make_moe()
    try:
        prepared = load(name).prepare(model)
    except Unsupported as reason:
        assert "expert" in str(reason)  # noqa: PT017 - either is right
        return
    found = loss_over_tasks(prepared, images)

    assert len(found) == len(trained(prepared))


def test_pruning_image_by_image_is_refused(make_moe):
    with pytest.raises(Unsupported, match="hidden activations of experts are sorted by expert"):
        load("sparse").prepare(make_moe())


def test_adapters_inside_experts_are_refused(make_moe):
    with pytest.raises(Unsupported, match=r"fc1 of blocks \[3, 7, 11\] are layers of experts"):
        load("lora", targets=("qkv", "fc1")).prepare(make_moe())


def test_bsr_trains_its_blocks_with_gates_and_experts_whole(make_moe):
    model = load("bsr").prepare(make_moe())
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("blocks.3.", "blocks.7.", "blocks.11.", "norm.", "head."))
    }

    assert {name for name, p in model.named_parameters() if p.requires_grad} == expected


def with_act(model, form):
    """Give the experts of a model another form of GELU."""
    for part in model.modules():
        if isinstance(part, ExpertMlp):
            part.act = torch.nn.GELU(approximate=form)
    return model


@pytest.mark.parametrize("form", ["none", "tanh"])
@pytest.mark.parametrize("rows", [1 << 20, 7], ids=["whole", "in pieces"])
def test_keeping_little_changes_no_gradient(rows, form, make_moe, images, monkeypatch):
    """Pieces of seven rows begin and end within experts."""
    monkeypatch.setattr("bsrbench.methods.parts.packed_experts.PRODUCT_BYTES", 4 * 128 * rows)
    little = load("bsr").prepare(with_act(make_moe(torch.float64), form))
    monkeypatch.setattr("bsrbench.methods.bsr.recompute_gelu", lambda *_: None)
    plain = load("bsr").prepare(with_act(make_moe(torch.float64), form))
    found, expected = (loss_over_tasks(m, images.double()) for m in (little, plain))

    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10)


def test_8_bits_stay_within_the_declared_error(make_moe, images):
    exact = loss_over_tasks(make_moe(), images)
    packed = loss_over_tasks(load("int8").prepare(make_moe()), images)
    apart = sum(float((packed[n] - exact[n]).square().sum()) for n in exact)
    size = sum(float(g.square().sum()) for g in exact.values())

    assert 0 < (apart / size) ** 0.5 <= load("int8").gradient_error


def test_a_mixture_packs_its_input_once_for_gates_and_experts(make_moe):
    model = load("int8").prepare(make_moe())
    mixtures = [part for part in model.modules() if isinstance(part, ExpertMlp)]
    tokens = torch.randn(2, 17, 32, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        mixtures[0](tokens)
    words = {t.untyped_storage().data_ptr(): t.numel() for t in kept if t.dtype == torch.int32}

    # 34 tokens of 32 numbers, and 68 rows of 128, four to a word.
    assert sorted(words.values()) == [34 * 32 // 4, 68 * 128 // 4]


def test_shipped_suites_of_several_tasks_are_read():
    for name, top_k in (("multitask-small", 2), ("multitask-paper", 4)):
        suite = read(find(name))
        assert suite.workload.multitask.top_k == top_k
        assert {"full", "head", "bsr", "bsr+int8"} <= {row.method for row in suite.methods}
