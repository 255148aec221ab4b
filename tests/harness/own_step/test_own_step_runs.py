"""How often a step of one's own runs, and what its runs leave behind."""

import gc

import pytest
from torch.utils._python_dispatch import _get_current_dispatch_mode

from bsrbench import profile
from bsrbench.harness.errors import BadInput


def test_steps_within_steps_count_together(own):
    """One that calls another twice does its work twice, and needs no more memory."""
    model, _, step = own

    def twice():
        step()
        step()

    once, both = profile(model, step, repeats=1), profile(model, twice, repeats=1)

    assert (both.forward_flop, both.step_flop) == (2 * once.forward_flop, 2 * once.step_flop)
    assert both.peak_counted_bytes == once.peak_counted_bytes


@pytest.mark.parametrize("calls", range(5))
def test_a_step_that_raises_leaves_nothing_behind(calls, own):
    """In whichever of its runs it does, the error is the step's own."""
    model, _, step = own
    before = _hooks(model)
    done = []

    def fails():
        if len(done) == calls:
            model.blocks[1].register_forward_hook(_raise)
        done.append(None)
        step()

    with pytest.raises(ZeroDivisionError, match="a test"):
        profile(model, fails, repeats=1)
    model.blocks[1]._forward_hooks.clear()

    assert before == _hooks(model)
    assert _get_current_dispatch_mode() is None
    assert gc.get_freeze_count() == 0


def _raise(*_):
    raise ZeroDivisionError("a test")


def _hooks(model):
    return [
        (len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()
    ] + [len(parameter._post_accumulate_grad_hooks or ()) for parameter in model.parameters()]


def test_it_runs_nine_times(own):
    model, _, step = own
    runs = []
    profile(model, lambda: runs.append(step()))

    assert len(runs) == 9


def test_what_is_no_step_is_said(own):
    with pytest.raises(BadInput, match="function without arguments"):
        profile(own[0], 3)
    with pytest.raises(BadInput, match="at least 1"):
        profile(own[0], own[2], repeats=0)
    with pytest.raises(BadInput, match="a torch module, got SGD"):
        profile(own[1], own[2])
