"""Each unpublished part of torch and timm is what this project relies on.

To be run with a newer torch before the bound in pyproject.toml is moved.
"""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import record_function
from torch.utils import data
from torch.utils.checkpoint import checkpoint

from bsrbench.harness.devices.cpu_events import cpu_profile
from bsrbench.harness.torch_internals import eager_internals as internals
from bsrbench.harness.torch_internals.eager_internals import (
    FakeTensor,
    FakeTensorMode,
)
from tests.harness.torch_internals.seen_operators import Operators


class Inside(torch.autograd.Function):
    """Passes on its input; the backward pass calls what it is given."""

    @staticmethod
    def forward(ctx, x, call):
        ctx.call = call
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.call()
        return gradient, None


def _seen_in_backward(see):
    """Return what a function returns in the middle of a backward pass."""
    seen = []
    Inside.apply(torch.ones(2, requires_grad=True), lambda: seen.append(see())).sum().backward()
    (value,) = seen
    return value


def test_a_mode_sees_operators_forward_and_backward():
    x = torch.ones(2, requires_grad=True)

    with Operators() as seen:
        (x * 3).sum().backward()

    assert "aten.mul.Tensor" in seen.names[:1]
    assert seen.names.count("aten.mul.Tensor") == 2  # gradient of x * 3


def test_fake_tensors_have_shapes_and_no_numbers():
    with FakeTensorMode(allow_fallback_kernels=False):
        made = torch.ones(3, 4) @ torch.ones(4, 5)

    assert isinstance(made, FakeTensor)
    assert ((3, 5), torch.float32, "cpu") == (tuple(made.shape), made.dtype, made.device.type)
    assert made.untyped_storage().nbytes() == 60
    assert not isinstance(torch.ones(1), FakeTensor)


def test_operators_make_fake_tensors_inside_their_mode_only():
    with FakeTensorMode():
        inside = internals.makes_fake_tensors()

    assert (True, False) == (inside, internals.makes_fake_tensors())


@pytest.mark.parametrize(
    "ask",
    [lambda: torch.ones(3).sum().item(), lambda: torch.ones(3).nonzero()],
    ids=["a number", "a shape"],
)
def test_what_depends_on_numbers_ends_in_one_of_the_errors(ask):
    with FakeTensorMode(allow_fallback_kernels=False), pytest.raises(internals.NEEDS_NUMBERS):
        ask()


def test_what_has_no_shape_rule_ends_in_one_of_the_errors():
    with FakeTensorMode(allow_fallback_kernels=False), pytest.raises(internals.NEEDS_NUMBERS):
        torch.ops.aten.to_sparse_csr(torch.ones(2, 2))


@pytest.mark.parametrize("workers", [0, 1])
def test_every_loader_iterates_by_one_type(workers):
    iterator = iter(data.DataLoader([torch.ones(1)], num_workers=workers))

    assert isinstance(iterator, internals.LOADER_ITERATOR)


def test_leaves_of_nested_containers_come_in_order():
    one, two = torch.ones(1), torch.ones(2)

    leaves = internals.tree_leaves(({"a": one, "b": [two, None]}, "text", 4))

    assert leaves[0] is one
    assert leaves[1] is two
    assert [None, "text", 4] == leaves[2:]


def test_only_a_tensor_that_wraps_others_stands_for_them():
    class Wrapper(torch.Tensor):
        @staticmethod
        def __new__(cls, inner):
            return torch.Tensor._make_wrapper_subclass(cls, inner.shape)

        def __init__(self, inner):
            self.inner = inner

        def __tensor_flatten__(self):
            return ["inner"], None

        @staticmethod
        def __tensor_unflatten__(inner, *_):
            return Wrapper(inner["inner"])

        @classmethod
        def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
            raise NotImplementedError

    wraps = torch.func.functionalize(internals.stands_for_others)

    assert internals.stands_for_others(Wrapper(torch.ones(2)))
    assert not internals.stands_for_others(torch.ones(2))
    assert not internals.stands_for_others(nn.Parameter(torch.ones(2)))
    assert not wraps(torch.ones(2))  # a wrapper of C++, whose storage can be asked for


def test_views_share_a_storages_identity_and_copies_do_not():
    x = torch.ones(4)
    identity = internals.storage_identity(x.untyped_storage())

    assert identity == internals.storage_identity(x[2:].detach().untyped_storage())
    assert identity != internals.storage_identity(x.clone().untyped_storage())


def test_empty_storages_and_those_without_numbers_have_identities_too():
    with FakeTensorMode():
        fake = [torch.ones(2), torch.ones(2)]
    tensors = [torch.empty(0), torch.empty(0), *fake]

    identities = {internals.storage_identity(x.untyped_storage()) for x in tensors}

    assert 4 == len(identities)


def test_a_storage_is_one_python_object_as_long_as_it_is_referred_to_weakly():
    x = torch.ones(4)
    storage = x.untyped_storage()
    reference = weakref.ref(storage)
    del storage
    gc.collect()

    assert reference() is x.view(2, 2).untyped_storage()


def test_writes_in_place_are_counted_and_views_count_with_their_base():
    x = torch.ones(4)
    before = internals.count_of_writes(x)

    x[1:].add_(1)
    x.sum()

    assert before + 1 == internals.count_of_writes(x)


def test_the_running_node_is_known_in_a_backward_pass_alone():
    name = _seen_in_backward(lambda: internals.running_node().name())

    assert "InsideBackward" == name
    assert internals.running_node() is None


def test_the_node_that_adds_up_a_gradient_names_its_tensor():
    x = torch.ones(2, requires_grad=True)
    seen = []

    class Sees(Operators):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(getattr(internals.running_node(), "variable", None))
            return super().__torch_dispatch__(func, types, args, kwargs)

    (x * 3).sum().backward()
    with Sees():
        (x * 3).sum().backward()

    assert seen[-1] is x


def test_a_backward_pass_is_told_from_all_else_recomputation_included():
    seen = []

    def block(x):
        seen.append(internals.runs_backward())
        return x.sin().sin()

    x = torch.ones(2, requires_grad=True)
    checkpoint(block, x, use_reentrant=False).sum().backward()

    assert [False, True] == seen
    assert _seen_in_backward(internals.runs_backward)
    assert not internals.runs_backward()


def test_nodes_are_numbered_as_they_are_made():
    x = torch.ones(2, requires_grad=True)
    before = internals.number_of_next_node()
    first = (x * 3).grad_fn
    between = internals.number_of_next_node()
    second = (x * 3).grad_fn

    assert before <= internals.number_of_node(first) < between
    assert between <= internals.number_of_node(second) < internals.number_of_next_node()


def test_a_profile_is_noticed():
    with cpu_profile():
        inside = internals.is_profiled()

    assert (True, False) == (inside, internals.is_profiled())


def test_a_mark_stands_in_a_profile_and_no_mode_sees_it():
    with cpu_profile() as profiler, Operators() as seen:
        with internals.profile_mark("our mark"):
            pass
        ours = list(seen.names)
        with record_function("torch's mark"):
            pass

    names = [event.name for event in profiler.events()]
    assert ["our mark", "torch's mark"] == [name for name in names if name.endswith("mark")]
    assert ([], True) == (ours, bool(seen.names))


def test_an_operator_made_of_others_has_a_kernel_that_says_so():
    composite = "CompositeImplicitAutograd"

    assert internals.has_kernel("aten::matmul", composite)
    assert not internals.has_kernel("aten::mm", composite)


def test_an_operator_without_a_shape_rule_has_no_meta_kernel():
    torch.library.define("bsrbench_test::shapeless", "(Tensor x) -> Tensor")
    before = internals.has_kernel("bsrbench_test::shapeless", "Meta")
    torch.library.register_fake("bsrbench_test::shapeless", torch.empty_like)

    assert (False, True) == (before, internals.has_kernel("bsrbench_test::shapeless", "Meta"))
    assert internals.has_kernel("aten::add_.Tensor", "Meta")


def test_declared_arguments_have_names_and_defaults():
    operator = torch.ops.aten.scaled_dot_product_attention.default

    declared = {
        argument.name: argument.default_value for argument in internals.arguments_of(operator)
    }

    assert ["query", "key", "value", "attn_mask", "dropout_p"] == list(declared)[:5]
    assert (0.0, None) == (declared["dropout_p"], declared["attn_mask"])


def test_nnpack_answers_as_it_was_set():
    with torch.backends.nnpack.flags(enabled=False):
        inside = internals.nnpack_is_enabled()
    with torch.backends.nnpack.flags(enabled=True):
        assert (False, True) == (inside, internals.nnpack_is_enabled())


def test_hooks_are_listed_before_and_after_and_those_taken_out_do_not_run():
    module, calls = nn.Identity(), []
    module.register_forward_pre_hook(lambda *_: calls.append("before"))
    module.register_forward_hook(lambda *_: calls.append("after"))
    before, after = internals.forward_hooks(module)

    module(torch.ones(1))
    for hooks in (before, after):
        assert 1 == len(hooks)
        hooks.clear()
    module(torch.ones(1))

    assert ["before", "after"] == calls


def test_the_convolution_is_the_one_that_conv2d_comes_to():
    image, weight, bias = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 2, 2), torch.randn(4)
    rest = (2, 2), (1, 1), (1, 1), False, (0, 0), 1, False, False, False, False

    made = internals.convolution(image, weight, bias, *rest)

    torch.testing.assert_close(made, F.conv2d(image, weight, bias, stride=2, padding=1))
    meta = internals.convolution(*(x.to("meta") for x in (image, weight, bias)), *rest)
    assert ("meta", made.shape) == (meta.device.type, meta.shape)
