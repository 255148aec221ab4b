"""Each unpublished part of torch and timm is what this project relies on.

To be run with a newer torch before the bound in pyproject.toml is moved.
"""

import gc
import weakref

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import record_function
from torch.utils import data
from torch.utils.checkpoint import checkpoint

from bsrbench.harness.devices.cpu_events import cpu_profile
from bsrbench.harness.torch_internals import compiler_internals as compiler
from bsrbench.harness.torch_internals import eager_internals as internals
from bsrbench.harness.torch_internals.eager_internals import (
    FakeTensor,
    FakeTensorMode,
    TorchDispatchMode,
)


class Operators(TorchDispatchMode):
    """Notes the name of every operator."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


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


def _heads(*, dtype=torch.float32, device="cpu"):
    torch.manual_seed(0)
    return [torch.randn(2, 3, 5, 8, dtype=dtype, device=device) for _ in range(3)]


def _attention_backward(q, k, v, gradient):
    """Return gradients by the definition, through autograd."""
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    with sdpa_kernel(SDPBackend.MATH):
        mixed = F.scaled_dot_product_attention(*leaves)
    return torch.autograd.grad(mixed, leaves, gradient)


def test_a_softmax_comes_to_the_operator_and_its_backward():
    x = torch.randn(2, 3, requires_grad=True)
    made = x.softmax(-1)
    gradient = torch.randn(2, 3)
    (expected,) = torch.autograd.grad(made, x, gradient)

    torch.testing.assert_close(internals.SOFTMAX(x.detach(), -1, False), made.detach())
    found = internals.SOFTMAX_BACKWARD(gradient, made.detach(), -1, torch.float32)
    torch.testing.assert_close(found, expected)
    with torch.no_grad(), Operators() as seen:
        x.softmax(-1)
    assert [f"{internals.SOFTMAX}.default"] == seen.names


def test_attention_of_cpus_returns_the_logarithms_of_a_softmaxs_sums():
    q, k, v = _heads()
    scores = q @ k.transpose(-2, -1) / 8**0.5

    mixed, sums = internals.CPU_ATTENTION(q, k, v)

    torch.testing.assert_close(mixed, scores.softmax(-1) @ v)
    torch.testing.assert_close(sums, scores.logsumexp(-1))
    with Operators() as seen:
        F.scaled_dot_product_attention(q, k, v)
    assert f"{internals.CPU_ATTENTION}.default" in seen.names


def test_attention_of_cpus_is_differentiated_from_its_output_and_sums():
    q, k, v = _heads()
    mixed, sums = internals.CPU_ATTENTION(q, k, v)
    gradient = torch.randn(mixed.shape)

    found = internals.CPU_ATTENTION_BACKWARD(gradient, q, k, v, mixed, sums, 0.0, False)

    torch.testing.assert_close(found, _attention_backward(q, k, v, gradient))


@pytest.mark.cuda
def test_attention_of_gpus_gives_sums_and_gradients():
    q, k, v = _heads(device="cuda")
    scores = q @ k.transpose(-2, -1) / 8**0.5
    mixed, sums, *_ = internals.CUDA_ATTENTION(q, k, v, None, compute_log_sumexp=True)
    gradient = torch.randn_like(mixed)
    unused = torch.zeros((), dtype=torch.int64, device="cuda")

    *found, _ = internals.CUDA_ATTENTION_BACKWARD(
        gradient, q, k, v, None, mixed, sums, unused, unused, 0.0, [True] * 3 + [False]
    )

    torch.testing.assert_close(mixed, scores.softmax(-1) @ v, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sums[..., :5], scores.logsumexp(-1), rtol=1e-3, atol=1e-3)
    expected = _attention_backward(q, k, v, gradient)
    torch.testing.assert_close(tuple(found), expected, rtol=1e-3, atol=1e-3)


def test_attention_of_gpus_has_the_arguments_it_is_given():
    forward = internals.arguments_of(internals.CUDA_ATTENTION.default)
    backward = internals.arguments_of(internals.CUDA_ATTENTION_BACKWARD.default)

    names = ["query", "key", "value", "attn_bias", "compute_log_sumexp", "dropout_p"]
    assert names == [a.name for a in forward][:6]
    last = ["philox_seed", "philox_offset", "dropout_p", "grad_input_mask", "is_causal", "scale"]
    assert ["grad_out_", "query", "key", "value", "attn_bias", "out", "logsumexp", *last] == [
        a.name for a in backward
    ]


def test_positions_are_added_as_the_whole_pass_of_timm_adds_them():
    vit = timm.create_model("test_vit").eval()
    nn.init.normal_(vit.pos_embed)
    images, seen = torch.randn(2, 3, 160, 160), []
    vit.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    vit(images)

    tokens = vit.norm_pre(vit.patch_drop(internals.with_positions(vit, vit.patch_embed(images))))

    torch.testing.assert_close(tokens, seen[0])


def test_a_graph_that_breaks_and_too_many_compilations_raise_the_errors_of_tracing():
    breaks, limit = compiler.tracing_errors()

    def broken(x):
        torch._dynamo.graph_break()
        return x + 1

    def each(x, number):
        return x + number

    with pytest.raises(breaks):
        torch.compile(broken, backend="eager", fullgraph=True)(torch.ones(1))
    several = torch.compile(each, backend="eager", fullgraph=True, dynamic=False)
    with torch._dynamo.config.patch(recompile_limit=2), pytest.raises(limit):
        [several(torch.ones(number + 1), number) for number in range(9)]


def test_what_inductor_compiles_computes_the_same_in_this_process_and_takes_time():
    before = compiler.compile_seconds()
    compiler.compile_in_this_process()
    graphs = []

    def inductor(graph, inputs):
        graphs.append(graph)
        return compiler.compile_by_inductor(graph, inputs)

    x = torch.randn(7)
    made = torch.compile(lambda x: x.sin() + 1, backend=inductor)(x)

    torch.testing.assert_close(made, x.sin() + 1)
    assert 1 == len(graphs)
    assert before < compiler.compile_seconds()
    assert 1 == torch._inductor.config.compile_threads


def test_a_missing_compiler_is_told_and_a_working_one_is_not_an_error():
    assert compiler.why_no_cpp_compiler() is None
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        error = compiler.why_no_cpp_compiler()

    assert "InvalidCxxCompiler" == type(error).__name__


def test_compiled_code_is_kept_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    assert tmp_path == compiler.compiler_cache()


class Doubles(nn.Module):
    def forward(self, x):
        return (x * 2,)


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated")  # torch 2.11's
def test_a_compiled_package_runs_on_lists_of_tensors(tmp_path):
    exported = torch.export.export(Doubles(), (torch.ones(3),))
    target = tmp_path / "doubles.pt2"

    compiler.aoti_compile_and_package(exported, str(target), {"cpp.dynamic_threads": True})
    (made,) = compiler.load_package(target)([torch.arange(3.0)])

    assert [0.0, 2.0, 4.0] == made.tolist()
