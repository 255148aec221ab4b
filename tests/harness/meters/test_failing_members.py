"""Members of a round group that fail, companions, and generations that are lost."""

import pytest

from bsrbench.harness.launch.turns.resident import ServerLost
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import VisitResult
from tests.harness.meters.turn_group import BROKEN, Group, clock_of, member, steady


def test_a_member_that_fails_is_not_visited_again_and_holds_nobody_up():
    def answer(name, generation, turn):
        return BROKEN if (name, generation, turn) == ("b", 1, 1) else 1.0

    group = Group(answer)
    members = [member(name, rounds=6, generations=3, budget_seconds=100.0) for name in "ab"]
    found = group.time(members)

    assert [(g, kind) for g, name, kind in group.made if name == "b" and g][-1] == (1, "steps")
    assert (
        sum(name == "b" for _, name, _ in [m for m in group.made if m[0] == 1 and m[2] == "steps"])
        == 2
    )
    assert [each.name for each in group.started] == ["a", "b", "a", "b", "a"]
    assert group.started[3].closed < group.started[2].closed  # before the others go on
    assert found["b"] == BROKEN
    assert clock_of(found["a"]).rounds == 18
    assert found["a"].readings().measurements["step_seconds"] == [1.0] * 18


def test_a_member_that_fails_while_it_is_started_is_not_visited():
    class Failing(Group):
        def start(self, started):
            resident = super().start(started)
            if started.key == "b":
                resident.ready, resident.failure = VisitResult(Status.CRASHED, "broken"), BROKEN
            return resident

    group = Failing(steady)
    found = group.time([member(name) for name in "ab"])

    assert {name for _, name, _ in group.made} == {"a"}
    assert found["b"] == BROKEN
    assert clock_of(found["a"]).rounds == 4


def test_companions_add_no_rounds_but_take_their_share_of_the_budget():
    """The new row asks for 12 s: of two members 24 s in two generations, each with 2 s of starts.

    A round takes 2 s, and the times are never settled: 5 rounds each.
    """

    def answer(name, generation, turn):
        return 1.0 + 0.5 * (turn % 2) * (1 if name == "new" else -1)

    group = Group(answer)
    members = [member("new", budget_seconds=12.0)]
    members.append(member("stored", rounds=40, generations=9, budget_seconds=100.0))
    found = group.time(members, companions={"stored"})

    assert clock_of(found["new"]).rounds == 10
    assert len(found["stored"].readings().measurements["step_seconds"]) == 10


def test_companions_are_not_visited_once_every_new_row_has_failed():
    group = Group(lambda name, *_: BROKEN if name == "new" else 1.0)
    members = [member(name, rounds=9) for name in ("new", "stored")]
    group.time(members, companions={"stored"})

    assert sum(kind == "steps" for _, _, kind in group.made) <= 2
    assert len(group.started) == 2


def test_a_group_of_which_nobody_is_left_ends():
    group = Group(lambda *_: BROKEN)

    assert group.time([member("a", rounds=3)]) == {"a": BROKEN}
    assert group.made == [(0, "a", "steps")]


def test_a_generation_whose_server_was_killed_is_timed_again():
    def answer(name, generation, turn):
        if (name, generation, turn) == ("a", 1, 1):
            raise ServerLost
        return 1.0

    group = Group(answer)
    found = group.time([member(name, rounds=3) for name in "ab"])

    assert [each.name for each in group.started] == ["a", "b"] * 3
    assert clock_of(found["a"]).rounds == 6
    assert found["b"].readings().measurements["step_seconds"] == [1.0] * 6


def test_a_group_whose_server_is_killed_twice_in_a_row_has_failed():
    def answer(*_):
        raise ServerLost

    found = Group(answer).time([member("a")])

    assert found["a"].status is Status.CRASHED
    assert "twice in a row" in found["a"].reason


def test_residents_are_ended_where_the_user_stops():
    group = Group(steady)

    def tell(place):
        if place.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        group.time([member(name) for name in "ab"], tell=tell)

    assert all(each.closed for each in group.started)
