"""Each unpublished part of torch's compiler is what this project relies on."""

from pathlib import Path

import pytest
import torch
from torch._inductor.runtime.cache_dir_utils import cache_dir

from bsrbench.harness.torch_internals import compiler_internals as compiler


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


def test_the_default_place_of_compiled_code_is_that_of_torch(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("getpass.getuser", lambda: "a:b/c")
    ours = compiler.compiler_cache()

    assert Path(cache_dir()) == ours  # cache_dir sets the variable, so it comes last
