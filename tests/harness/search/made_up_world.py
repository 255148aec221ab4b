"""A made-up world in which a search can be judged by formulas."""

from dataclasses import replace

from bsrbench import methods
from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.record_key import in_file_name
from bsrbench.harness.records.trial_record import Outcome, Status
from bsrbench.harness.search.search_question import SearchQuestion
from bsrbench.harness.search.search_space import make_space
from bsrbench.harness.search.search_stages import Search
from bsrbench.harness.spec.recipe import Recipe
from bsrbench.harness.spec.trial_spec import Profile, Workload
from tests.trial_records import trial_record

WORKLOAD = Workload(model="deit_tiny_patch16_224", batch=8)
PROFILE = Profile(rounds=3, steps=1, warmup_steps=0)
RECIPE = Recipe(steps=8, learning_rate=1e-3)
RATES = (1e-4, 1e-3)


def make_bsr_space(companions=("int8", "checkpoint"), workload=WORKLOAD):
    return make_space("bsr", methods.load("bsr"), [workload], 12, companions, PROFILE)


def made_record(spec, **values):
    missing = {name: "not measured" for name in METRICS if name not in values}
    return trial_record(
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


def searched(world, **changes):
    """Return the space, its costs, the goal and what came of the search in a made-up world."""
    space = make_bsr_space()
    costs = {c.row_id: world.cost(c.spec) for c in space.candidates}
    goal = SearchQuestion(RECIPE, RATES, (0, 1, 2), memory_bytes=10**6, first=12)
    goal = replace(goal, **changes)
    tried = Search(space, costs, goal, world.do, lambda _: None).run()
    return space, costs, goal, tried
