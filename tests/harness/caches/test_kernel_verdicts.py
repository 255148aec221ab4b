"""What the stored results of kernels' checks say, from files written by hand."""

import hashlib
import json

import pytest

from bsrbench.harness.caches.cache_contents import contents_of
from bsrbench.harness.caches.cache_kind import KERNELS
from bsrbench.harness.caches.kernel_verdicts import kernel_verdicts
from bsrbench.harness.torch_internals.compiler_internals import COMPILER_CACHE

LIBRARY = b"a library"
STORED = {
    "module": "quantise8",
    "library": hashlib.sha256(LIBRARY).hexdigest(),
    "faults": {"PACK8": "", "UNPACK8": "it differs"},
    "device": "cpu",
    "processor": "A CPU",
    "capability": "AVX2",
    "instructions": "0123456789abcdef",
    "torch": "2.14.1",
}
OF_A_GPU = {"library": "", "device": "cuda", "processor": "NVIDIA H100", "capability": "9.0"}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Return a function that stores a result beside a library; it returns the result in words."""
    monkeypatch.setenv(COMPILER_CACHE, str(tmp_path))
    KERNELS.folder().mkdir()

    def lines(text, library=LIBRARY):
        (KERNELS.folder() / "packed_codes-0123456789abcdef.so").write_bytes(library)
        (KERNELS.folder() / "quantise8-0123456789abcdef.json").write_text(text)
        (verdict,) = kernel_verdicts(contents_of(KERNELS))
        return verdict.lines()

    return lines


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({}, "quantise8 (cpu, A CPU, AVX2, torch 2.14.1):"),
        (OF_A_GPU, "quantise8 (cuda, NVIDIA H100, 9.0, torch 2.14.1):"),
    ],
)
def test_a_result_names_what_was_checked_and_each_kernel(changes, first, stored):
    assert stored(json.dumps(STORED | changes)) == [
        first,
        "  PACK8: passed its check",
        "  UNPACK8: rejected, runs eagerly: it differs",
    ]


def test_a_result_of_an_earlier_version_has_no_processor(stored):
    old = {name: STORED[name] for name in ("library", "faults")}

    assert (
        stored(json.dumps(old))[0] == "quantise8 (stored without processor and version of torch):"
    )


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"faults": 3}', '{"faults": {}}', "\0"])
def test_a_damaged_result_is_named(damage, stored):
    (line,) = stored(damage)

    assert line.endswith("): the file is damaged; the kernels are checked again at their next use")


def test_a_result_whose_library_changed_is_named(stored):
    (line,) = stored(json.dumps(STORED), library=b"cut off")

    assert line.endswith(
        "): its library is missing or changed; the kernels are built again at their next use"
    )
