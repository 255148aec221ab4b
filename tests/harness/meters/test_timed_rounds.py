"""In whose turn a group is timed, and when it ends."""

from bsrbench.harness.launch.round_group import rounds_of
from tests.harness.meters.turn_group import Group, clock_of, member, steady


def test_each_round_visits_everybody_once_in_an_order_drawn_anew():
    group = Group(steady)
    group.time([member(name, rounds=20) for name in "abc"])

    assert len(group.orders()) == 40
    assert {"".join(sorted(order)) for order in group.orders()} == {"abc"}
    assert len(set(group.orders())) == 6  # all orders: one is missing once in 250 groups


def test_the_orders_depend_on_the_seed_alone():
    def orders(seed):
        group = Group(steady)
        group.time([member(name, rounds=9) for name in "abc"], seed)
        return group.orders()

    assert orders(1) == orders(1) != orders(2)


def test_every_third_round_evaluates_and_every_sixth_times_phases():
    group = Group(steady)
    group.time([member("a", rounds=7, generations=1)])
    kinds = [kind for _, _, kind in group.made]

    assert kinds == [
        *("steps", "evaluation", "phases"),
        *("steps", "steps"),
        *("steps", "evaluation"),
        *("steps", "steps"),
        *("steps", "evaluation", "phases"),
    ]


def test_energy_is_measured_after_the_rounds_where_there_is_a_counter():
    group = Group(steady, energy=True)
    group.time([member(name, rounds=1, generations=1) for name in "ab"])

    assert [(name, kind) for _, name, kind in group.made[-2:]] == [("a", "energy"), ("b", "energy")]


def test_all_members_of_a_generation_are_started_before_a_visit():
    group, events = Group(steady), []
    members = [member(name, rounds=1) for name in "ab"]
    group.time(members, tell=lambda place: events.append((place.generation, place.round)))

    assert [r for g, r in events if g == 1][:3] == [None, None, 0]
    assert all(each.closed for each in group.started)


def test_rounds_and_generations_are_the_largest_that_are_asked_for():
    members = [member("a", rounds=2, generations=3), member("b", rounds=4, generations=1)]
    group = Group(steady)
    found = group.time(members)

    assert rounds_of(members) == 4
    assert {name: clock_of(result).rounds for name, result in found.items()} == {"a": 12, "b": 12}


def test_samples_of_all_generations_are_joined_with_the_number_of_their_generation():
    """Two generations of four rounds: evaluations after rounds 0 and 3."""
    group = Group(lambda _, generation, turn: 10.0 * generation + turn + 1)
    found = group.time([member(name, rounds=4) for name in "ab"])
    clock = clock_of(found["a"])

    assert found["a"].readings().measurements["step_seconds"] == [1, 2, 3, 4, 11, 12, 13, 14]
    assert clock.generations == {
        "step_seconds": (0, 0, 0, 0, 1, 1, 1, 1),
        "evaluation_seconds": (0, 0, 1, 1),
    }
    assert clock.steps_per_visit == 9
    assert clock.warmup_steps == (2, 2)
    assert found["a"].seconds == 2.0


def test_a_group_settles_at_the_ratios_and_says_so():
    """Times differ by 3 between rounds, but b always takes 1.1 times as long as a."""

    def answer(name, generation, turn):
        return (1.0 + turn % 3) * (1.1 if name == "b" else 1.0)

    group = Group(answer)
    found = group.time([member(name, rounds=6, budget_seconds=1e6) for name in "ab"])

    assert clock_of(found["a"]).stopped_by == "interval"
    assert clock_of(found["a"]).rounds == 3 * 6  # an interval needs three generations


def test_generations_that_differ_are_followed_by_more_until_the_interval_is_narrow():
    """The ratio of generation g is 1.02 or 1.00 in turns; within 3 % holds from g = 4 on.

    Logarithms 0.0198 and 0, half of each: of n their standard deviation is about 0.0114 for n = 4,
    and t(0.975, 3) x 0.0114 / 2 = 0.018. For n = 2: 12.7 x 0.014 / 1.41 = 0.126; for n = 3: 4.30 x
    0.0114 / 1.73 = 0.0284, which is within 3 % as well.
    """

    def answer(name, generation, turn):
        return 1.02 if (name, generation % 2) == ("b", 0) else 1.0

    group = Group(answer)
    members = [member(name, rounds=6, budget_seconds=1e6) for name in "ab"]
    found = group.time(members)

    assert clock_of(found["b"]).rounds == 3 * 6
    assert clock_of(found["b"]).stopped_by == "interval"


def test_a_generation_that_is_not_settled_goes_on_until_its_share_of_the_budget():
    """Two rows with 20 s each: two generations of 20 s, 2 s of which are starts.

    A round of two visits takes 4 s or 2 s in turns: 6 rounds after the starts have taken 18 s.
    """

    def answer(name, generation, turn):
        return [3.0, 1.0][turn % 2] if name == "b" else 1.0

    group = Group(answer)
    found = group.time([member(name, budget_seconds=20.0) for name in "ab"])

    assert clock_of(found["a"]).rounds == 12
    assert clock_of(found["a"]).stopped_by in {"budget", "interval"}


def test_the_least_is_done_even_beyond_the_budget_and_no_more():
    group = Group(lambda name, generation, _: 1.0 + generation * (name == "b"))
    found = group.time([member(name, rounds=3, budget_seconds=1.0) for name in "ab"])

    assert clock_of(found["a"]).rounds == 6
    assert clock_of(found["a"]).stopped_by == "budget"


def test_only_ratios_to_the_rows_to_compare_with_count():
    """B and c are noisy beside each other, and so is c beside a; compared is b with a alone."""

    def answer(name, generation, turn):
        return {"a": 1.0, "b": 1.1, "c": 1.0 + turn % 2}[name]

    stops = {}
    for compared in ("a", "c"):
        group = Group(answer)
        members = [member(name, rounds=6, budget_seconds=40.0) for name in "abc"]
        found = group.time(members, companions={"c"}, compared_with={compared})
        stops[compared] = clock_of(found["a"]).rounds

    assert stops["a"] == 3 * 6 < stops["c"]
