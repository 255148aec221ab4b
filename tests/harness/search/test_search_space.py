"""The space of a search: its settings, their neighbours and their front."""

import json

import pytest

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.search.pareto_front import front
from bsrbench.harness.search.search_space import make_space, spread_over
from tests.harness.search.made_up_world import PROFILE, WORKLOAD, make_bsr_space


def test_the_front_is_every_point_that_no_other_is_better_than():
    """(1, 3) and (3, 1) and (2, 2) trade; (3, 3) loses to (2, 2); equal points both stay."""
    points = [(1, 3), (3, 3), (2, 2), (3, 1), (2, 2)]

    assert front(points) == [0, 2, 3, 4]


def test_the_space_is_every_setting_with_every_companion_and_micro_batch():
    """7 choices of blocks x (no dropping + 4 places x 3 rates x fused or not) = 175, x 3 x 2."""
    space = make_bsr_space()

    assert len(space.settings) == 175
    assert len(space.candidates) == 1050
    assert len({candidate.row_id for candidate in space.candidates}) == 1050


def test_the_published_setting_comes_first_and_by_its_plain_name():
    space = make_bsr_space()

    assert space.plain(0).spec.label() == "bsr"
    assert space.settings[0] == {
        "trained_blocks": [3, 7, 11],
        "drop_at": [3, 6, 9],
        "keep_rate": 0.5,
        "fuse": True,
    }


def test_neighbours_differ_in_one_option():
    space = make_bsr_space()

    for number in (0, 40, 174):
        for other in space.neighbours(number):
            own, theirs = space.settings[number], space.settings[other]
            assert sum(own[name] != theirs[name] for name in own) == 1
    assert len(space.neighbours(0)) == 6 + 4 + 2 + 1  # blocks, places or none, rates, fusing


@pytest.mark.parametrize("depth", [4, 6, 12, 24])
def test_every_variant_of_every_method_is_one_of_its_settings(depth):
    """Blocks and places lie within the model, and no setting stands there twice."""
    for name in methods.names():
        variants = methods.find(name).variants(depth)
        for options in variants:
            methods.load(name, **options)
            named = [*options.get("trained_blocks", ()), *options.get("drop_at", ())]
            assert all(0 <= block < depth for block in named)
        written = [json.dumps(options, sort_keys=True) for options in variants]
        assert len(set(written)) == len(written)


def test_a_method_without_variants_is_named():
    with pytest.raises(BadInput, match="'head' has no variants"):
        make_space("head", methods.load("head"), [WORKLOAD], 12, (), PROFILE)


def test_settings_are_spread_over_their_work():
    """Of ten, sorted by value, one comes of each of five pairs."""
    values = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]

    chosen = spread_over(range(10), values, 5, seed=0)

    assert sorted(values[number] // 2 for number in chosen) == [0, 1, 2, 3, 4]
