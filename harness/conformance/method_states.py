"""Checks of a method that changes which parameters train between steps."""

from torch import nn

from bsrbench.harness.conformance.subject import Subject, names_of, require, trained

STEPS = 40  # states of so many steps are looked at
SEEDS = (0, 1)
FEWEST = 2  # of states that can differ


def states_train_what_prepare_leaves(subject: Subject) -> None:
    """Each state trains a part of what prepare() leaves trainable; together they train all of it.

    To enter a state again gives the same part, whatever the state was before.
    """
    method, model = subject.method(), subject.model()
    model = method.prepare(model)
    everything = trained(model)
    states = method.states(model)
    parts = {}
    for state in states:
        method.enter(model, state)
        parts[state] = trained(model)
        require(bool(parts[state]), f"in state {state} nothing trains")
        more = [p for p in parts[state] if not _among(p, everything)]
        require(
            not more,
            f"in state {state} these train, but prepare() has frozen them: {names_of(model, more)}",
        )
    require(
        len(states) < FEWEST or len({tuple(map(id, part)) for part in parts.values()}) > 1,
        "every state trains the same parameters: enter() must freeze those of the other states",
    )
    for state in reversed(states):
        method.enter(model, state)
        require(
            list(map(id, trained(model))) == list(map(id, parts[state])),
            f"state {state} trains other parameters when it is entered after another state",
        )
    never = [p for p in everything if not any(_among(p, part) for part in parts.values())]
    require(
        not states or not never,
        f"these train in no state, but prepare() leaves them trainable: {names_of(model, never)}",
    )


def state_of_a_step_depends_on_step_and_seed_only(subject: Subject) -> None:
    """state_at() gives the same state for the same step and seed, so that a training can resume.

    Every block that trains in a measured state trains in a cycle, and no other one.
    """
    method = subject.method()
    model = method.prepare(subject.model())
    states = method.states(model)
    if not states:
        return
    for seed in SEEDS:
        steps = range(0, STEPS * method.cycle_steps(model), max(1, method.cycle_steps(model) // 7))
        first = [method.state_at(step, seed, model) for step in steps]
        second = [subject.method().state_at(step, seed, model) for step in reversed(steps)]
        require(
            first == second[::-1],
            "state_at() gives different states for the same step and seed: compute the state from "
            "them alone",
        )
        known = {block for state in states for block in state}
        seen = {block for state in first for block in state}
        require(
            seen == known,
            f"in {STEPS} cycles the blocks {sorted(seen)} train, but states() contains "
            f"{sorted(known)}",
        )


def _among(parameter: nn.Parameter, parameters: list[nn.Parameter]) -> bool:
    return any(parameter is other for other in parameters)
