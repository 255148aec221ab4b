"""A search: its space, its predictions, its stages in a made-up world, and a small real one."""

import json
import tomllib
from dataclasses import replace

import pytest

from bsrbench import methods
from bsrbench.harness.cli.search import _what_decides
from bsrbench.harness.errors import BadInput
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.predict.step_cost import StepCost, step_cost
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.record_key import in_file_name
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Outcome, Status, TrialRecord
from bsrbench.harness.search.candidate_costs import predict_all, refusals, require_one_that_fits
from bsrbench.harness.search.pareto_front import front
from bsrbench.harness.search.search_effort import first_settings, remembered
from bsrbench.harness.search.search_outcome import account, write_suite
from bsrbench.harness.search.search_question import SearchQuestion, training_of
from bsrbench.harness.search.search_space import make_space, spread_over
from bsrbench.harness.search.search_stages import Search
from bsrbench.harness.spec.recipe import Recipe
from bsrbench.harness.spec.search_result import SearchResult
from bsrbench.harness.spec.suite_file import read
from bsrbench.harness.spec.trial_spec import Profile, Workload
from bsrbench.reports.compare.search_rows import measured

WORKLOAD = Workload(model="deit_tiny_patch16_224", batch=8)
PROFILE = Profile(rounds=3, steps=1, warmup_steps=0)
RECIPE = Recipe(steps=8, learning_rate=1e-3)
RATES = (1e-4, 1e-3)


def make_bsr_space(companions=("int8", "checkpoint"), workload=WORKLOAD):
    return make_space("bsr", methods.load("bsr"), workload, 12, companions, PROFILE)


def made_record(spec, **values):
    missing = {name: "not measured" for name in METRICS if name not in values}
    return TrialRecord(
        key=f"{in_file_name(spec.method)}-{spec.trial_id()}-s-m",
        spec=spec,
        outcome=Outcome(status=Status.COMPLETED),
        measurements=dict.fromkeys(METRICS) | values,
        missing=missing,
        environment={"machine_id": "m", "round_group": "g"},
        finished_at="2026-11-25T00:00:00+00:00",
    )


class World:
    """A made-up world: each block that trains costs, late ones help, and dropping hurts a little.

    What a setting reaches is 0.1 a trained block of the last three, less 0.01 a dropping, and less
    at the first learning rate.
    """

    def __init__(self):
        self.asked = []

    def options_of(self, spec):
        given = spec.options.get("bsr", {}) if "+" in spec.method else spec.options
        method = methods.load("bsr", **given)
        return method.trained_blocks, method.drop_at

    def cost(self, spec):
        trained, dropped = self.options_of(spec)
        above = 12 - min(trained)
        share = 4 if spec.workload.micro_batch else 1
        saved = 2 if "+" in spec.method else 1
        peak = 100 + (50 * len(trained) + 20 * above) // saved // share
        return StepCost(peak, 1000 + 100 * above - 50 * len(dropped), len(trained))

    def accuracy(self, spec):
        trained, dropped = self.options_of(spec)
        late = sum(block >= 9 for block in trained)
        best = spec.training.learning_rate == RATES[1]
        return 0.2 + 0.1 * late - 0.01 * len(dropped) - (0 if best else 0.05)

    def do(self, specs):
        self.asked += specs
        return [self.record(spec) for spec in specs]

    def record(self, spec):
        cost = self.cost(spec)
        if spec.training:
            return made_record(spec, validation_accuracy_top1=self.accuracy(spec))
        time = cost.step_flop * (1.5 if "+" in spec.method else 1) / 1e6
        return made_record(
            spec,
            peak_counted_bytes=cost.peak_bytes,
            peak_allocated_bytes=cost.peak_bytes,
            step_flop=cost.step_flop,
            step_seconds=[time, time * 1.01, time * 0.99],
        )


@pytest.fixture
def world():
    return World()


def searched(world, **changes):
    """Return the space, its costs, the goal and what came of the search in a made-up world."""
    space = make_bsr_space()
    costs = {c.row_id: world.cost(c.spec) for c in space.candidates}
    goal = SearchQuestion(RECIPE, RATES, (0, 1, 2), memory_bytes=10**6, first=12)
    goal = replace(goal, **changes)
    tried = Search(space, costs, goal, world.do, lambda _: None).run()
    return space, costs, goal, tried


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
    with pytest.raises(BadInput, match="'head' names no variants"):
        make_space("head", methods.load("head"), WORKLOAD, 12, (), PROFILE)


def test_settings_are_spread_over_their_work():
    """Of ten, sorted by value, one comes of each of five pairs."""
    values = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]

    chosen = spread_over(range(10), values, 5, seed=0)

    assert sorted(values[number] // 2 for number in chosen) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("micro_batch", [None, 4, 3, 1])  # of eight images
@pytest.mark.parametrize("name", ["full", "bsr", "bsr+checkpoint", "bsr+int8"])
def test_two_micro_batches_tell_what_all_of_them_take(make_six_spec, name, micro_batch):
    """Bytes and FLOPs are those of the estimate, which runs every micro-batch."""
    spec = make_six_spec(name, batch=8, micro_batch=micro_batch, optimizer="adamw")
    expected = predict(spec, methods.load).measurements

    found = step_cost(spec, methods.load)

    assert found.peak_bytes == expected["peak_estimated_bytes"]
    assert found.step_flop == expected["step_flop"]
    assert found.trained_parameters == expected["trained_parameters"]


def test_predictions_are_made_in_processes_and_refusals_keep_their_reason(
    launcher, make_spec, make_six_spec
):
    """BSR's default blocks are those of twelve, and this model has six."""
    good, bad = make_six_spec("bsr"), make_spec("bsr")

    found = launcher.costs([good, bad])

    assert found[0] == step_cost(good, methods.load)
    assert "the model has 6, so set trained_blocks" in found[1].reason


def predicted(space, world, path, source=lambda _: "s", asked=None):
    def ask(specs):
        if asked is not None:
            asked.extend(specs)
        return [world.cost(spec) for spec in specs]

    return predict_all(space.candidates, ask, source, path, jobs=2, tell=lambda *_: None)


def test_a_prediction_is_made_once(world, tmp_path):
    space, path, asked = make_bsr_space(), tmp_path / "costs.json", []
    first = predicted(space, world, path)

    again = predicted(space, world, path, asked=asked)

    assert again == first
    assert asked == []


@pytest.mark.parametrize("spoil", ["source", "file"])
def test_what_another_source_said_or_a_broken_file_is_predicted_again(world, tmp_path, spoil):
    space, path, asked = make_bsr_space(companions=()), tmp_path / "costs.json", []
    predicted(space, world, path)
    if spoil == "file":
        path.write_text("{ broken", encoding="utf-8")

    predicted(
        space, world, path, (lambda _: "new") if spoil == "source" else (lambda _: "s"), asked
    )

    assert len(asked) == len(space.candidates)


def test_a_budget_that_nothing_fits_names_the_smallest(world):
    """One late block in micro-batches with a companion: 100 + (50 + 20) // 2 // 4 bytes."""
    space = make_bsr_space()
    costs = {c.row_id: world.cost(c.spec) for c in space.candidates}
    goal = SearchQuestion(RECIPE, RATES, (0,), memory_bytes=107, first=4)

    with pytest.raises(BadInput, match=r"nothing fits into 107 bytes.* smallest needs 108 \(bsr\+"):
        require_one_that_fits(space.candidates, costs, goal)


def test_the_search_finds_what_is_better_in_everything(world):
    """Of the world's settings those that train late blocks alone beat (3, 7, 11)."""
    space, costs, _, tried = searched(world)

    published = next(s for s in world.asked if s.training and s.method == "bsr" and not s.options)
    plain = [row for row in tried.rows[1:] if row.is_plain()]
    assert plain
    assert any(
        costs[row.row_id].peak_bytes < costs[space.plain(0).row_id].peak_bytes
        and world.accuracy(training_of(row.spec, RECIPE, RATES[1], 0)) >= world.accuracy(published)
        for row in plain
    )


def test_every_setting_gets_the_same_rates_and_none_reads_the_test_split(world):
    searched(world)

    trainings = [spec for spec in world.asked if spec.training]
    assert {spec.training.evaluate for spec in trainings} == {"validation"}
    tuned = [spec for spec in trainings if spec.seed == 1000]
    for steps in (2, 8):
        rows = {s.row_id() for s in tuned if s.training.steps == steps}
        pairs = {(s.row_id(), s.training.learning_rate) for s in tuned if s.training.steps == steps}
        assert pairs == {(row, rate) for row in rows for rate in RATES}


class TwoDays(World):
    """Rows with a companion were measured later, on a machine ten times as fast that day.

    Args:
        turns: whether the published setting took turns with them.
    """

    def __init__(self, *, turns):
        super().__init__()
        self.turns = turns

    def record(self, spec):
        made = super().record(spec)
        if spec.training or "+" not in spec.method:
            return made
        published = super().record(make_bsr_space().plain(0).spec)
        own, theirs = (
            [time / 10 for time in record.measurements["step_seconds"]]
            for record in (made, published)
        )
        later = {
            "environment": made.environment | {"round_group": "h"},
            "measurements": made.measurements | {"step_seconds": own},
            "beside": {published.key: {"step_seconds": theirs}} if self.turns else {},
        }
        return made.model_copy(update=later)


def test_rows_measured_later_are_chosen_by_the_turns_that_the_published_setting_took(world):
    """A tenth of all seconds is no tenth of the time; without turns there is no time at all."""
    once = searched(world)[-1].trained
    in_turns, apart = (searched(TwoDays(turns=turns))[-1] for turns in (True, False))
    composed = {row.row_id for row in apart.rows if "+" in row.spec.method}

    assert list(in_turns.trained) == list(once)
    assert composed
    assert not composed & apart.trained.keys()


def test_rows_measured_later_have_the_ratio_of_those_turns(tmp_path):
    """A composed row takes 1.5 times a step's FLOPs, on either day."""
    later, store = TwoDays(turns=True), Store(tmp_path)
    space, costs, goal, tried = searched(later)
    store.open_for_writing()
    for record in tried.profiles:
        store.save(record, {})
    rows = measured(account(space, costs, goal, tried), tmp_path)
    work = costs[space.plain(0).row_id].step_flop
    expected = {row.row_id: 1.5 * costs[row.row_id].step_flop / work for row in tried.rows}
    found = {
        row.row_id: one.time()
        for row, one in zip(tried.rows, rows, strict=True)
        if "+" in row.spec.method
    }

    assert found
    assert found == {row: pytest.approx(expected[row]) for row in found}


def test_every_row_is_compared_with_the_published_setting():
    space = make_bsr_space()
    specs = [candidate.spec for candidate in space.candidates[:20]]

    assert space.published(specs) == [space.plain(0).spec]
    assert space.published(specs[1:]) == []


def test_what_is_asked_for_is_the_same_every_time(world):
    """So a search that was killed goes on where it was."""
    again = World()

    searched(world)
    searched(again)

    assert [s.trial_id() for s in again.asked] == [s.trial_id() for s in world.asked]


def test_what_does_not_fit_is_never_measured_but_for_the_published_setting(world):
    """In the world the published setting takes 100 + 150 + 180 = 430 bytes on whole batches."""
    _, costs, goal, tried = searched(world, memory_bytes=300)

    assert [row.spec.label() for row in tried.rows[:1]] == ["bsr"]
    assert all(goal.fits(costs[row.row_id]) for row in tried.rows[1:])


def test_trainings_that_do_not_complete_are_no_accuracy(world):
    """A world in which every training of more than one block diverges still has a front."""

    def record(spec):
        made = World.record(world, spec)
        if spec.training and len(world.options_of(spec)[0]) > 1:
            return made_record(spec).model_copy(
                update={"outcome": Outcome(status=Status.DIVERGED, reason="the loss became nan")}
            )
        return made

    world.record = record
    *_, tried = searched(world)

    assert tried.rows[1:]
    assert all(len(world.options_of(row.spec)[0]) == 1 for row in tried.rows[1:])


def test_the_suite_does_the_trained_rows_again(world, tmp_path):
    space, costs, goal, tried = searched(world)
    found = account(space, costs, goal, tried)
    write_suite(found, tmp_path / "found.toml")

    suite = read(tmp_path / "found.toml")

    wanted = {row.row_id for row in tried.rows if row.row_id in tried.trained}
    assert {spec.row_id() for spec in suite.trials()} == wanted
    assert {spec.training.learning_rate for spec in suite.trials() if spec.training} == {RATES[1]}
    assert all(len(row["tries"]) == 2 for row in tomllib.loads(_text(tmp_path))["methods"])


def _text(folder):
    return (folder / "found.toml").read_text(encoding="utf-8")


def test_the_account_survives_its_file(world):
    found = account(*searched(world))

    assert SearchResult.model_validate_json(found.model_dump_json()) == found


def test_rows_beat_the_published_in_memory_and_time_at_no_lower_accuracy(world, tmp_path):
    """Judged by the records alone, against the world's own formulas."""
    space, costs, goal, tried = searched(world)
    found = account(space, costs, goal, tried)
    folder = tmp_path / "records"
    folder.mkdir()
    for record in [*tried.profiles, *(world.record(spec) for spec in world.asked if spec.training)]:
        (folder / f"{record.key}.json").write_text(record.model_dump_json(), encoding="utf-8")

    rows = measured(found, tmp_path)

    assert any(row.beats(rows[0]) for row in rows[1:])
    for row, candidate in zip(rows, tried.rows, strict=True):
        if not row.is_complete():
            assert not row.on_front
            continue
        time = row.profile.step_seconds().centre / rows[0].profile.step_seconds().centre
        assert row.time() == pytest.approx(time, rel=0.02)
        better = (
            costs[candidate.row_id].peak_bytes < costs[space.plain(0).row_id].peak_bytes
            and time < 0.99
            and sum(row.accuracies) >= sum(rows[0].accuracies)
        )
        assert row.beats(rows[0]) == better


def test_more_time_means_more_settings():
    """Steps of 1 s: 0.7 + 2.5 + 2 s short, 0.7 + 2.5 + 8 s whole; 2.5 s read 6.25 batches.

    Fixed: 5 x 2 and 6 x 3 whole trainings, 18 rows of 62.8 s; the rest in fours of short ones.
    """
    workload = WORKLOAD.model_copy(update={"batch": 16})
    goal = SearchQuestion(RECIPE, RATES, (0, 1, 2), 1, first=4)
    short, whole = 0.7 + 2.5 + 2, 0.7 + 2.5 + 8
    fixed = 10 * whole + 18 * whole + 18 * 62.8

    def settings(seconds):
        return first_settings(goal, workload, [StepCost(1, 10)], 100, 10.0, seconds)

    assert settings(fixed + 4 * short * 9.5) == 9
    assert settings(1.0) == 4


def test_a_decision_is_remembered_for_its_question(tmp_path):
    path = tmp_path / "effort.json"

    first = remembered(path, {"memory": 1}, lambda: 7)
    again = remembered(path, {"memory": 1}, lambda: 8)
    other = remembered(path, {"memory": 2}, lambda: 9)

    assert (first, again, other) == (7, 7, 9)


SUITE = """
seeds = [0]
[workload]
model = "test_vit"
weights = "random"
data = "digits"
image_size = 32
batch = 4
optimizer = "adamw"
threads = 1
[training]
steps = 4
learning_rate = 1e-3
[profile]
rounds = 1
steps = 1
warmup_steps = 0
[[methods]]
method = "bsr"
to_try = [1e-3]
"""
FEW = """
from dataclasses import dataclass

from bsrbench.methods.bsr import BlockSelectiveReprogramming


@dataclass(frozen=True)
class Few(BlockSelectiveReprogramming):
    trained_blocks: tuple[int, ...] = (1, 3, 5)
    drop_at: tuple[int, ...] = (1, 3)

    @classmethod
    def variants(cls, depth):
        return {"trained_blocks": (5,)}, {"trained_blocks": (5,), "drop_at": ()}
"""


def test_a_small_search_leaves_page_figure_and_suite(typed, tmp_path):
    """Of a method in a file of one's own, with two settings beside its default."""
    suite, file = tmp_path / "small.toml", tmp_path / "few.py"
    suite.write_text(SUITE, encoding="utf-8")
    file.write_text(FEW, encoding="utf-8")
    asked = ["search", "--like", suite, "--memory", "1GiB", "--time", "1s", "--with", ""]
    asked += ["--method", f"{file}:Few", "--results", tmp_path / "out"]

    code, said = typed(*asked)
    again, _ = typed(*asked)

    assert (code, again) == (0, 0), said
    page = (tmp_path / "out" / "search.md").read_text(encoding="utf-8")
    assert "the test split was not read" in page
    assert (tmp_path / "out" / "front.png").stat().st_size > 10_000
    assert read(tmp_path / "out" / "found.toml").trials()
    records = [json.loads(p.read_bytes()) for p in (tmp_path / "out" / "records").iterdir()]
    trained = [r for r in records if r["spec"]["training"]]
    assert trained
    assert all(r["measurements"]["accuracy_top1"] is None for r in trained)


def test_candidates_that_cannot_be_are_counted_with_their_reason(world):
    """Two methods that drop tokens are no pair; the search goes on without."""
    space = make_bsr_space(companions=("evit",))
    costs = {
        c.row_id: StepCost(reason="no pair") if c.companion else world.cost(c.spec)
        for c in space.candidates
    }

    assert refusals(costs.values()) == ["350 of 700 candidates cannot be predicted: no pair"]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (("--time", "soon"), "expected a time like 90s, 30min or 2h"),
        (("--memory", "much"), "expected a size like 512MiB"),
        (("--method", "bsr+int8"), "name one method"),
        (("--method", "head"), "names no variants"),
        (("--with", "int9"), "did you mean 'int8'"),
        (("--like", "memory"), "trains nothing"),
        (("--model", "test_vit_"), "no timm model"),
    ],
)
def test_bad_input_is_said_in_a_line(typed, tmp_path, wrong, expected):
    suite = tmp_path / "small.toml"
    suite.write_text(SUITE, encoding="utf-8")
    usual = {"--like": suite, "--memory": "1GiB", "--with": "", "--results": tmp_path / "out"}
    usual |= {wrong[0]: wrong[1]}

    code, said = typed("search", *(part for pair in usual.items() for part in pair))

    assert code == 2
    assert expected in said
    assert not (tmp_path / "out" / "records").exists() or not list(
        (tmp_path / "out" / "records").iterdir()
    )


class Settled:
    """A launcher that has settings and nothing else."""

    def __init__(self, **settings):
        self.found = settings

    def settings(self, device):
        """Return them."""
        return self.found


def test_a_prediction_made_under_other_settings_is_made_again(make_spec):
    """Which operators run decides what they keep and compute, over fake tensors, too."""
    fused, unfused = (
        _what_decides(Settled(TIMM_FUSED_ATTN=value), make_spec("bsr"))("bsr") for value in "10"
    )

    assert fused == _what_decides(Settled(TIMM_FUSED_ATTN="1"), make_spec("bsr"))("bsr")
    assert fused != unfused
    assert fused.split("-")[0] == methods.fingerprint("bsr")
