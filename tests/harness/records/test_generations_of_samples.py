"""A record may say in which process generation each sample was measured."""

import msgspec
import pytest

from bsrbench.harness.records.sidecar import ClockDetail, sidecar_from

GENERATIONS = {"step_seconds": (0, 0, 1, 1), "evaluation_seconds": (0, 1)}


def test_generations_are_written_and_read():
    clock = ClockDetail(rounds=4, generations=GENERATIONS)

    assert sidecar_from({"clock": msgspec.to_builtins(clock)}).clock == clock


def test_records_without_generations_stay_as_they_are():
    assert msgspec.to_builtins(ClockDetail(rounds=4)) == {"rounds": 4}
    assert sidecar_from({"clock": {"rounds": 4}}).clock.generations == {}


@pytest.mark.parametrize("number", [-1, 0.5, "first", None])
def test_a_generation_has_a_number_from_0_on(number):
    with pytest.raises(ValueError, match="generations"):
        sidecar_from({"clock": {"generations": {"step_seconds": [0, number]}}})
