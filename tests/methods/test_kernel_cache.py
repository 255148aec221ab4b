"""The cache of kernels: what it says, and that it can be emptied at any time."""

import json
import platform
import sys

import pytest
import torch

from bsrbench.methods.parts import kernel_builds, kernel_target
from bsrbench.methods.parts.kernel_target import target_of

CRASHES, HANGS = "*(volatile int*)0 = 1;", 'for (;;) asm volatile("");'
# The second kernel is wrong as long as a file exists.
UNTIL = """
    if (access("{file}", F_OK) == 0) {{ {wrong} }}
    for (long i = 0; i < rows * columns; ++i) out[i] = 2 * x[i];
"""


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (CRASHES, "its check was ended by SIGSEGV"),
        (HANGS, "its check did not end within 1 s"),
    ],
    ids=["crashed", "hung"],
)
def test_a_failed_check_is_remembered_until_the_cache_is_cleaned(
    wrong, fault, planted, typed, tmp_path, monkeypatch
):
    if wrong is HANGS:
        monkeypatch.setattr(kernel_builds, "KERNEL_SECONDS", 1.0)
    file = tmp_path / "wrong"
    file.touch()
    body = UNTIL.format(file=file, wrong=wrong)
    first = planted(body).fault_of("SECOND")
    file.unlink()
    monkeypatch.setattr(kernel_builds, "KERNEL_SECONDS", 120.0)
    remembered = planted(body).fault_of("SECOND")
    code, _ = typed("cache", "clean", "kernels")
    again = planted(body).fault_of("SECOND")

    assert code == 0
    assert [f"kernel SECOND: {fault}", first, ""] == [first, remembered, again]


def test_says_why_a_kernel_is_rejected_and_for_what_it_was_compiled(planted, typed):
    planted(CRASHES)
    code, said = typed("cache", "--long")
    cpu = torch.backends.cpu.get_cpu_capability()
    (verdict,) = json.loads(typed("cache", "--json")[1])["kernels"]
    lines = [line.strip() for line in said.splitlines()]
    (first,) = (line for line in lines if line.startswith("planted_kernels ("))

    assert code == 0
    assert first.startswith("planted_kernels (cpu, ")
    assert first.endswith(f", {cpu}, torch {torch.__version__}):")
    assert "FIRST: passed its check" in lines
    assert "SECOND: rejected, runs eagerly: its check was ended by SIGSEGV" in lines
    assert verdict["faults"] == {"FIRST": "", "SECOND": "its check was ended by SIGSEGV"}


def test_kernels_run_on_when_the_cache_is_emptied(planted, typed, empty_cache):
    """The first use of a kernel finds its library loaded, though its file is gone."""
    build = planted()
    typed("cache", "clean", "kernels")
    x = torch.arange(6.0).view(2, 3)
    results = sys.modules["planted_kernels"].FIRST.compiled(build)(x)

    assert list(empty_cache.iterdir()) == []
    assert torch.equal(2 * x, results)


def test_kernels_are_built_again_when_the_cache_is_emptied_during_their_check(
    planted, typed, monkeypatch
):
    check, calls = kernel_builds._checked, []

    def check_and_empty(*arguments):
        faults = check(*arguments)
        if not calls:
            typed("cache", "clean", "kernels")
        calls.append(faults)
        return faults

    monkeypatch.setattr(kernel_builds, "_checked", check_and_empty)

    assert planted().faults == {"FIRST": "", "SECOND": ""}
    assert len(calls) == 2


def test_kernels_are_checked_again_on_a_cpu_with_other_instructions(
    planted, tmp_path, empty_cache, monkeypatch
):
    """``-march=native`` uses instructions that torch's name of the capability does not tell."""
    checked = {"FIRST": "", "SECOND": ""}
    monkeypatch.setattr(kernel_builds, "_checked", lambda *_: checked)
    for flags in ("avx2 avx512f", "avx2 avx512f avx512_fp16"):
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text(f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: {flags}\n\nprocessor")
        monkeypatch.setattr(kernel_target, "CPUINFO", cpuinfo)
        planted()
    stored = [json.loads(path.read_text()) for path in empty_cache.glob("*.json")]

    assert ["A CPU", "A CPU"] == [verdict["processor"] for verdict in stored]
    assert len(list(empty_cache.glob("*.so"))) == 2


def test_a_system_that_does_not_describe_its_cpu_gives_the_architecture(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_target, "CPUINFO", tmp_path / "none")

    assert platform.machine() == target_of("cpu").processor


def test_kernels_of_a_gpu_are_for_its_model_and_capability(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    target = target_of("cuda")

    assert ("cuda", "NVIDIA H100", "9.0", "") == (
        target.device,
        target.processor,
        target.capability,
        target.instructions,
    )
    assert str(torch.__version__) == target.torch
