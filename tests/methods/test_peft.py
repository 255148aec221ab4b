"""Any tuner of peft, against peft used as its documentation says, and against our lora."""

import pytest
import torch
from peft import AdaLoraConfig, get_peft_model
from torch import nn

from bsrbench import methods
from bsrbench.harness.conformance.subject import (
    Subject,
    cross_entropy_of,
    tiny_batch,
    tiny_model,
    trained,
)
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Unsupported
from bsrbench.harness.profiler.memory_pass import memory_pass
from bsrbench.methods.parts.peft_tuners import tuner_classes
from tests.methods.tuner_settings import options_of

STEPS = 8
ADALORA = {"init_r": 6, "target_r": 2, "tinit": 1, "tfinal": 2, "total_step": STEPS}


def steps(model, done, number=STEPS, rate=0.5):
    """Train with SGD; ``done`` is called after each step, while gradients exist."""
    optimizer = torch.optim.SGD(trained(model), lr=rate)
    batch = tiny_batch()
    for step in range(number):
        cross_entropy_of(model, batch).backward()
        optimizer.step()
        done(step)
        optimizer.zero_grad()
    return model


def adalora():
    return methods.load("peft", tuner="adalora", settings=ADALORA)


def kept_values(model):
    """Return how many values of each layer's E are not masked."""
    return [int((p != 0).sum()) for name, p in model.named_parameters() if "lora_E" in name]


def test_without_options_it_is_lora_with_the_settings_of_peft():
    found = []
    for method in (methods.load("peft"), methods.load("lora", rank=8, alpha=8)):
        torch.manual_seed(0)
        model = steps(method.prepare(tiny_model()), lambda _: None, 3)
        found.append(model.state_dict())

    ours, theirs = found
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_settings_reach_the_tuner():
    model = methods.load("peft", settings={"r": 3}, targets=["fc1"]).prepare(tiny_model())

    shapes = {tuple(p.shape) for name, p in model.named_parameters() if "lora_A" in name}
    assert shapes == {(3, 32)}
    assert {name.split(".")[3] for name, _ in model.named_parameters() if "lora_A" in name} == {
        "fc1"
    }


def test_norms_are_what_ln_tuning_trains():
    model = methods.load("peft", tuner="ln_tuning").prepare(tiny_model())

    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(names) == 12 * 2 * 2 + 2
    assert all("norm1" in name or "norm2" in name or name.startswith("head") for name in names)


def test_a_stored_weight_can_be_under_a_tuner():
    model = methods.load("peft+nf4", peft=options_of("miss")).prepare(tiny_model())
    cross_entropy_of(model, tiny_batch()).backward()

    assert all(p.grad is not None for p in trained(model))


def test_adalora_is_trained_as_in_the_documentation_of_peft():
    """The same steps with peft's own wrapper of a model: weights and masks are equal."""
    method = adalora()
    ours = steps(method.prepare(tiny_model()), lambda _: method.step_done())

    config = AdaLoraConfig(target_modules=r".*qkv", modules_to_save=["head"], **ADALORA)
    theirs = get_peft_model(tiny_model(), config)  # draws from where the model has left off
    steps(theirs, theirs.base_model.update_and_allocate)

    expected = {n: p for n, p in theirs.named_parameters() if "lora_" in n}
    found = {n: p for n, p in ours.named_parameters() if "lora_" in n}
    assert len(found) == len(expected) == 12 * 3
    for (name, p), q in zip(found.items(), expected.values(), strict=True):
        torch.testing.assert_close(p, q, msg=name)
    assert kept_values(ours) == kept_values(theirs)
    assert sum(kept_values(ours)) == 12 * ADALORA["target_r"]


def test_adalora_resumes_in_the_middle_bit_for_bit(tmp_path):
    method = adalora()
    whole = steps(method.prepare(tiny_model()), lambda _: method.step_done())

    first = adalora()
    model = steps(first.prepare(tiny_model()), lambda _: first.step_done(), 4)
    torch.save(model.state_dict(), tmp_path / "state")
    second = adalora()
    resumed = second.prepare(tiny_model(seed=1))
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    steps(resumed, lambda _: second.step_done(), 4)

    for (name, p), q in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_adalora_without_gradients_after_the_step_is_unsupported(make_spec):
    spec = make_spec(
        method="peft",
        options={"tuner": "adalora", "settings": ADALORA},
        optimizer_in_backward=True,
    )

    with pytest.raises(Unsupported, match="adalora reads all gradients after each step"):
        memory_pass(spec, methods.load)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tuner": "adalore"}, "did you mean 'adalora'"),
        ({"tuner": "prompt_tuning"}, "no tuner of the installed peft 'prompt_tuning'"),
        ({"settings": {"rank": 4}}, "no setting of peft's LoraConfig 'rank'"),
        ({"settings": {"r": "eight"}}, "settings.r = 'eight'"),
        ({"settings": {"target_modules": ["qkv"]}}, "settings.target_modules cannot be set"),
        ({"tuner": "adalora"}, "refuses its settings: .*total_step"),
        ({"tuner": "adamss", "settings": {"use_asa": True}}, "settings.use_asa is not supported"),
        ({"tuner": "xlora"}, "peft's XLoraConfig refuses its settings"),
        ({"targets": ["qkv", "qkv"]}, "must be different names of layers"),
    ],
)
def test_bad_options_are_named(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("peft", **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": ["query"]}, "targets names query, but block 0 has no layer of this name"),
        ({"settings": {"r": 4, "use_dora": True}, "targets": ["norm1"]}, "peft cannot apply lora"),
    ],
)
def test_what_peft_cannot_apply_is_unsupported(options, said):
    with pytest.raises(Unsupported, match=said):
        methods.load("peft", **options).prepare(tiny_model())


def test_without_peft_it_says_what_to_install(monkeypatch):
    import sys  # noqa: PLC0415

    method = methods.load("peft")
    for name in [name for name in sys.modules if name.split(".")[0] == "peft"]:
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(Unsupported, match=r"pip install --upgrade 'bsrbench\[lora\]'"):
        method.prepare(tiny_model())


def test_every_tuner_of_the_installed_peft_is_known():
    assert {"lora", "adalora", "ia3", "oft", "boft", "vera", "miss", "lokr"} <= set(tuner_classes())


@pytest.mark.parametrize("tuner", ["vera", "vblora", "ia3", "oft", "lokr", "randlora", "miss"])
def test_a_tuner_learns(tuner):
    torch.manual_seed(0)
    method = methods.load("peft", **options_of(tuner))
    model = method.prepare(tiny_model())
    nn.init.normal_(model.head.weight, std=0.1)
    before = float(cross_entropy_of(model, tiny_batch()).detach())
    subject = Subject("peft", methods.find, methods.load, options_of(tuner))
    assert subject.method() == method
    steps(model, lambda _: method.step_done(), rate=0.02)

    assert float(cross_entropy_of(model, tiny_batch()).detach()) < before
