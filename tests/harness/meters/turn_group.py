"""Members of a round group whose processes are made up."""

from dataclasses import dataclass

from bsrbench.harness.launch.round_group import GroupRoles, time_in_turns
from bsrbench.harness.profiler.clock_visits import Visited
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.sidecar import ClockDetail, Sidecar
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.trial.pass_result import PassResult, VisitResult

TIMED = {"step_seconds", "evaluation_seconds"}


@dataclass(frozen=True)
class Member:
    """A trial of a round group."""

    spec: TrialSpec
    key: str


def member(name, **profile):
    """Return a member whose method has this name."""
    settings = {"rounds": 2, "generations": 2, "budget_seconds": 0.0} | profile
    workload = Workload(model="m", batch=1)
    return Member(TrialSpec(method=name, workload=workload, profile=Profile(**settings)), name)


BROKEN = PassResult(Status.CRASHED, "broken")


class Resident:
    """A clock pass that answers by a rule; a start takes 1 s, and a visit as long as it says."""

    cores, ready = (), VisitResult()

    def __init__(self, group, name, generation):
        self.group, self.name, self.generation = group, name, generation
        self.samples, self.round, self.failure, self.closed = {}, 0, None, False
        group.seconds += 1.0

    def visit(self, kind):
        """Answer by the rule of the group."""
        self.group.made.append((self.generation, self.name, kind))
        if kind == "steps":
            answer = self.group.answer(self.name, self.generation, self.round)
            self.round += 1
            if isinstance(answer, PassResult):
                self.failure = answer
                return VisitResult(answer.status, answer.reason)
            self.group.seconds += answer
        else:
            answer = None
        self.samples.setdefault(f"{kind}_seconds".replace("steps", "step"), []).append(answer or 7)
        return VisitResult(visited=Visited(answer, energy=self.group.energy))

    def end(self):
        """Return all samples."""
        samples = {name: times for name, times in self.samples.items() if name in TIMED}
        detail = Sidecar(clock=ClockDetail(warmup_steps=(2,), steps_per_visit=9 + self.generation))
        return self.failure or PassResult(reading=PassReadings(samples, detail=detail), seconds=1.0)

    def close(self):
        """Note that it was closed."""
        self.closed = self.closed or len(self.group.made)


class Group:
    """Members that answer by a rule; it remembers all visits, on a clock of its own."""

    def __init__(self, answer, energy=False):
        self.answer, self.energy = answer, energy
        self.made, self.seconds, self.started = [], 0.0, []

    def time(self, members, seed=0, companions=(), compared_with=(), tell=lambda _: None):
        """Time members in turns."""
        roles = GroupRoles(companions, compared_with)
        return time_in_turns(members, self.start, roles, seed, tell, lambda: self.seconds)

    def start(self, started):
        """Start a member."""
        generation = sum(each.name == started.key for each in self.started)
        self.started.append(Resident(self, started.key, generation))
        return self.started[-1]

    def orders(self, kind="steps"):
        """Return the names in the order of their visits, by round."""
        names = [name for _, name, made in self.made if made == kind]
        count = len({each.name for each in self.started})
        return ["".join(names[i : i + count]) for i in range(0, len(names), count)]


def clock_of(result):
    """Return the conditions of a timing."""
    return result.readings().detail.clock


def steady(*_):
    """Let every visit take a second."""
    return 1.0
