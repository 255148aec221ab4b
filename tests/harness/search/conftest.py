"""The made-up world of searches."""

import pytest

from tests.harness.search.made_up_world import World


@pytest.fixture
def world():
    return World()
