"""The times of a round group, kept until every new trial of it has its record."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec
from pydantic import ValidationError, model_validator

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.round_group import TrialWithKey
from bsrbench.harness.launch.staged_passes import Tell, read_pass, unused
from bsrbench.harness.records.metric_bounds import fault_of_values
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_environment import Circumstances
from bsrbench.harness.records.trial_record import Status, TimesByKey
from bsrbench.harness.spec.frozen_data import FromFile, digest
from bsrbench.harness.trial.record_assembly import TIMED, TIMING
from bsrbench.harness.trial.trial_passes import CLOCK, PassResult
from bsrbench.harness.visible_text import visible_in

STAGED = "times"  # in the name of the file they are kept in


class _Plain(FromFile):
    """The fields of times, as they are kept."""

    name: str
    order: list[str]
    clocks: dict[str, dict[str, Any]]
    beside: TimesByKey
    notes: list[str]

    @model_validator(mode="after")
    def _holds_times(self) -> "_Plain":
        for times in self.beside.values():
            if fault := fault_of_values(times) if times.keys() <= METRICS.keys() else "no metric":
                raise ValueError(f"beside: {fault}")
        return self


@dataclass(frozen=True)
class GroupTimes:
    """What was timed in turns.

    Attributes:
        name: of the round group; a hash of all that was timed in it.
        order: keys of all members, in the order of the first round.
        clocks: of the new trials, by key, all visits joined.
        beside: of the stored trials that were timed again, by the key of their record.
        notes: what must be known about those.
    """

    name: str
    order: tuple[str, ...]
    clocks: Mapping[str, PassResult]
    beside: TimesByKey
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        group: Sequence[TrialWithKey],
        companions: Collection[str],
        clocks: Mapping[str, PassResult],
    ) -> "GroupTimes":
        """Take them from the visits of a group's members."""
        again = [trial for trial in group if trial.key in companions]
        read = {trial.key: clocks[trial.key] for trial in again}
        return cls(
            name=digest([[t.key, clocks[t.key].reading.get("measurements")] for t in group]),
            order=tuple(trial.key for trial in group),
            clocks={key: clock for key, clock in clocks.items() if key not in companions},
            beside={key: _times(clock) for key, clock in read.items() if _times(clock)},
            notes=tuple(note for trial in again for note in _notes(trial, clocks[trial.key])),
        )

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "GroupTimes":
        """Take them from what ``plain`` returned.

        Raises:
            BadInput: it is something else; what, and why.
        """
        try:
            kept = _Plain.model_validate(visible_in(dict(plain)))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise BadInput(f"not the times of a round group ({place}: {first['msg']})") from error
        clocks = {key: read_pass(clock) for key, clock in kept.clocks.items()}
        details = [clock.reading.get("detail", {}) for clock in clocks.values()]
        if not all(isinstance(detail.get(CLOCK, {}), dict) for detail in details):
            raise BadInput("not the times of a round group (a visit's details are no table)")
        if strange := set(clocks) - set(kept.order):
            raise BadInput(f"not the times of a round group ({sorted(strange)} had no turn)")
        return cls(kept.name, tuple(kept.order), clocks, kept.beside, tuple(kept.notes))

    def plain(self) -> dict[str, Any]:
        """Return them as values for JSON."""
        return asdict(self)

    def clock(self, key: str) -> PassResult:
        """Return a new trial's visits, with what must be known about those beside it."""
        found = self.clocks[key]
        if not found.reading:  # it failed, and has no times to compare
            return found
        notes = [*found.reading["notes"], *self.notes]
        return replace(found, reading=found.reading | {"notes": notes})

    def failures(self) -> list[str]:
        """Return which stored trials did not complete when they were timed again."""
        return [note for note in self.notes if not note.startswith(TIMING)]

    def circumstances(self, key: str, of_run: Circumstances) -> Circumstances:
        """Return the circumstances of a new trial, from those of its run."""
        return msgspec.structs.replace(
            of_run,
            round_group=self.name,
            round_position=self.order.index(key),
            timing=self.clocks[key].reading.get("detail", {}).get(CLOCK, {}),
        )


def _times(clock: PassResult) -> dict[str, list[float]]:
    """Return what was timed of a stored trial; nothing where it did not complete."""
    measured = clock.reading.get("measurements", {}).items()
    return {name: times for name, times in measured if name in TIMED and isinstance(times, list)}


def _notes(trial: TrialWithKey, clock: PassResult) -> list[str]:
    """Return what must be known about a stored trial that was timed again."""
    label = trial.spec.label()
    if clock.status != Status.COMPLETED:
        said = (
            f"{label}, which is stored, was timed again in turns with the new rows and did not "
            f"complete ({clock.status}: {clock.reason}): there is no ratio of their times to it"
        )
        return [said]
    noted = [note.removeprefix(TIMING) for note in clock.reading.get("notes", [])]
    return [f"{TIMING}of {label}, timed again in turns with it, {note}" for note in noted]


def all_staged(store: Store, tell: Tell = lambda _: None) -> dict[str, GroupTimes]:
    """Return by the key they are staged under all times that interrupted runs have left.

    Args:
        store: the results folder.
        tell: is told of a file that cannot be used, whose group is timed again.
    """
    found = {}
    for key in store.staged_keys(STAGED):
        try:
            staged = store.staged(key, STAGED)
            if staged is not None:
                found[key] = GroupTimes.from_plain(staged)
        except BadInput as error:
            tell(unused(key, STAGED, error))
    return found


def left_by_interrupted(store: Store) -> frozenset[str]:
    """Return the keys of the trials whose times an interrupted run has left."""
    return frozenset(key for times in all_staged(store).values() for key in times.clocks)


def drop_staged(store: Store, keys: Iterable[str]) -> None:
    """Drop the times that interrupted runs have left of any of these trials."""
    unwanted = set(keys)
    for key, times in all_staged(store).items():
        if unwanted & times.clocks.keys():
            store.unstage(key)
