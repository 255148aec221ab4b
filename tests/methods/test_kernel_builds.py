"""How kernels are built, checked, cached and chosen."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from bsrbench.harness.method import Unsupported
from bsrbench.harness.torch_internals.compiler_internals import COMPILER_CACHE
from bsrbench.methods.parts import kernel_builds, kernel_check, kernels
from bsrbench.methods.parts.gelu_levels import FIND
from bsrbench.methods.parts.group_codes import PACK2, PACK4, UNPACK2
from bsrbench.methods.parts.kernel_builds import Build, build_of, is_built
from bsrbench.methods.parts.quantise8 import PACK8, UNPACK8

BROKEN = replace(PACK8, place="bsrbench.methods.parts.quantise8:NOWHERE")
LEVELS = FIND.place.partition(":")[0]  # the module of FIND and READ


@pytest.fixture(scope="module")
def built_once(tmp_path_factory):
    """Return a cache with the kernels of one module, compiled and checked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(COMPILER_CACHE, str(tmp_path_factory.mktemp("compiled")))
        patch.setenv(kernels.SETTING, "compiled")
        build_of.cache_clear()
        assert build_of(LEVELS, FIND.source, "cpu").faults == {"FIND": "", "READ": ""}
        build_of.cache_clear()
        return kernel_builds.kernel_folder()


@pytest.fixture
def built(built_once, empty_cache):
    """Return a copy of this cache, which the next use finds."""
    shutil.copytree(built_once, empty_cache)
    return empty_cache


def test_eager_is_no_fallback_where_it_was_asked_for(way):
    way("eager")

    assert kernels.facts([PACK4]) == {"kernels": "eager", "kernel_compile_seconds": 0.0}


def test_the_first_use_reports_the_seconds_of_building_and_later_ones_none(way, empty_cache):
    way("compiled")
    first = kernels.facts([PACK2, UNPACK2])
    way("compiled")  # as another process would find it
    later = kernels.facts([PACK2, UNPACK2])

    assert first["kernel_compile_seconds"] > 0
    assert later == {"kernels": "compiled", "kernel_compile_seconds": 0.0}
    assert {path.suffix for path in empty_cache.iterdir()} == {".so", ".json"}


def test_kernels_to_compile_are_those_that_the_cache_does_not_have(way, empty_cache):
    way("auto")
    before = kernels.to_compile([PACK2, UNPACK2])
    kernels.facts([PACK2])  # builds all kernels of its module
    after = kernels.to_compile([PACK2, UNPACK2])
    (library,) = empty_cache.glob("*.so")
    library.write_bytes(b"damaged")

    assert before == kernels.to_compile([PACK2, UNPACK2]) == ("PACK2", "UNPACK2")
    assert after == ()


def test_nothing_is_to_compile_where_kernels_are_eager(way, empty_cache):
    way("eager")

    assert kernels.to_compile([PACK2]) == ()
    assert not empty_cache.exists()


def test_what_torch_compiles_is_compiled_when_it_is_chosen(way, monkeypatch):
    """Its seconds count as time for compiling, and not for a step."""
    calls = []
    monkeypatch.setattr(kernels, "build_of", lambda *_: Build(None, {"PACK8": ""}, 3.0))
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda *given: calls.append(given))
    way("auto")
    stated = kernels.facts([PACK8])

    assert stated["kernels"] == "compiled"
    assert stated["kernel_compile_seconds"] >= 3.0
    assert len(calls) == 1


def test_seconds_of_building_count_once_where_kernels_fail(way, monkeypatch):
    build = Build(None, {"PACK8": "it differs", "UNPACK8": "it differs"}, 3.0)
    monkeypatch.setattr(kernels, "build_of", lambda *_: build)
    way("auto")
    stated = kernels.facts([PACK8, UNPACK8])

    assert stated["kernel_compile_seconds"] == 3.0
    assert stated["fallback"].endswith("slower: kernel PACK8: it differs")


def test_says_why_it_fell_back(way):
    way("auto")
    stated = kernels.facts([BROKEN])

    assert stated["kernels"] == "eager"
    assert "NOWHERE" in stated["fallback"]


def test_does_not_fall_back_where_compiling_was_asked_for(way):
    way("compiled")

    with pytest.raises(Unsupported, match=r"cannot run compiled: .*NOWHERE"):
        kernels.chosen(BROKEN, "cpu")


def test_refuses_another_way(way):
    way("fast")

    with pytest.raises(Unsupported, match="'fast' must be one of auto, compiled, eager"):
        kernels.chosen(PACK8, "cpu")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("*(volatile int*)0 = 1;", "its check was ended by SIGSEGV"),
        ('for (;;) asm volatile("");', "its check did not end within 5 s"),
        ("out[3] = 1;", "1 of its results differ from those of torch's operators"),
    ],
    ids=["crashes", "hangs", "differs"],
)
def test_a_kernel_that_fails_its_check_is_not_used(body, fault, planted, monkeypatch):
    monkeypatch.setattr(kernel_builds, "KERNEL_SECONDS", 5.0 if "asm" in body else 300.0)
    build = planted(body)

    assert build.fault_of("FIRST") == ""
    assert build.fault_of("SECOND") == f"kernel SECOND: {fault}"


def test_a_card_for_which_torch_cannot_compile_is_a_fault_of_the_kernel(monkeypatch):
    old = "Found GeForce GTX 1080 which is too old to be supported by the triton GPU compiler"

    def compiled(*_, **__):
        raise RuntimeError(f"{old}\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: compiled)

    assert kernel_check.fault_of(PACK8, Build(None), "cpu") == f"RuntimeError: {old}"


def test_a_kernel_that_passes_its_check_is_used(planted):
    build = planted()

    assert build.faults == {"FIRST": "", "SECOND": ""}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"faults": 3}'])
def test_a_damaged_result_of_a_check_is_no_result(damage, built):
    before = is_built(LEVELS, FIND.source, "cpu")
    (result,) = built.glob("*.json")
    result.write_bytes(damage)

    assert (True, False) == (before, is_built(LEVELS, FIND.source, "cpu"))


def test_a_check_without_a_result_is_made_again(way, built):
    """Whatever the damage: that it is one is seen above."""
    way("compiled")
    (result,) = built.glob("*.json")
    result.write_bytes(b'{"faults": 3}')

    assert build_of(LEVELS, FIND.source, "cpu").fault_of("FIND") == ""
    assert json.loads(result.read_text())["faults"] == {"FIND": "", "READ": ""}


def test_a_library_that_was_cut_off_is_not_loaded(way, built):
    way("auto")
    (library,) = built.glob("*.so")
    library.write_bytes(library.read_bytes()[:5000])

    assert build_of(LEVELS, FIND.source, "cpu").fault_of("FIND") == ""


def test_a_cache_that_cannot_be_written_is_no_end(way, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kernel_builds, "kernel_folder", lambda: tmp_path / "file" / "cache")
    way("auto")
    stated = kernels.facts([FIND])

    assert stated["kernels"] == "eager"
    assert "Not a directory" in stated["fallback"]
