"""Fixtures for tests of kernels."""

import pytest

from bsrbench.methods.parts import kernel_builds, kernels
from bsrbench.methods.parts.kernel_builds import build_of


@pytest.fixture
def way(monkeypatch):
    """Return a setter of the way kernels run; forgets earlier choices before and after."""

    def choose(wanted):
        monkeypatch.setenv(kernels.SETTING, wanted)
        kernels.chosen.cache_clear()
        build_of.cache_clear()

    yield choose
    kernels.chosen.cache_clear()
    build_of.cache_clear()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setattr(kernel_builds, "kernel_folder", lambda: folder)
    return folder
