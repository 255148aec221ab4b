"""The times of a round group, stored until every new trial of the group has its record."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from bsrbench.harness.errors import BadInput, fault_and_place
from bsrbench.harness.launch.staged_passes import Tell, unused
from bsrbench.harness.launch.turns.generation import TrialWithKey
from bsrbench.harness.records.metric_bounds import fault_of_value, fault_of_values
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.pass_readings import Measured
from bsrbench.harness.records.remarks import Note, NoteKind
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_environment import Circumstances
from bsrbench.harness.records.trial_record import Status, TimesByKey
from bsrbench.harness.spec.frozen_data import digest
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.record_assembly import TIMED
from bsrbench.harness.visible_text import visible_in

STAGED = "times"  # part of the name of the file that contains the times


class GroupTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The times that the trials of a round group took.

    Attributes:
        name: name of the round group: a hash of all its times.
        order: keys of all members, in the order of the first round.
        clocks: key of a new trial -> its clock pass, with all visits joined.
        beside: record key of a stored trial that was timed again -> its new times.
        notes: what a reader must know about the stored trials.
    """

    name: str
    order: tuple[str, ...]
    clocks: Mapping[str, PassResult]
    beside: TimesByKey
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        for times in self.beside.values():
            if fault := fault_of_values(times) if times.keys() <= METRICS.keys() else "no metric":
                raise ValueError(f"beside: {fault}")
        if strange := self.clocks.keys() - set(self.order):
            raise ValueError(f"{sorted(strange)} are not in the order of the turns")

    @classmethod
    def of(
        cls,
        group: Sequence[TrialWithKey],
        companions: Collection[str],
        clocks: Mapping[str, PassResult],
    ) -> "GroupTimes":
        """Return the times of a group from the visits of its members."""
        again = [trial for trial in group if trial.key in companions]
        read = {trial.key: clocks[trial.key] for trial in again}
        return cls(
            name=digest([[t.key, _measured(clocks[t.key])] for t in group]),
            order=tuple(trial.key for trial in group),
            clocks={key: clock for key, clock in clocks.items() if key not in companions},
            beside={key: _times(clock) for key, clock in read.items() if _times(clock)},
            notes=tuple(note for trial in again for note in _notes(trial, clocks[trial.key])),
        )

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "GroupTimes":
        """Return the times from the data that ``plain`` returned.

        Raises:
            BadInput: the data are not the times of a round group; the message names the fault.
        """
        try:
            return msgspec.convert(visible_in(dict(plain)), cls)
        except msgspec.MsgspecError as error:
            raise BadInput(f"not the times of a round group ({fault_and_place(error)})") from error

    def plain(self) -> dict[str, Any]:
        """Return the times as JSON data."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data

    def clock(self, key: str) -> PassResult:
        """Return a new trial's visits, with the notes on the stored trials of the group."""
        result = self.clocks[key]
        if result.reading is None:  # a visit failed, so there are no times to compare
            return result
        notes = (*result.reading.notes, *self.notes)
        return replace(result, reading=replace(result.reading, notes=notes))

    def failures(self) -> list[str]:
        """Return a message for each stored trial that did not complete when it was timed again."""
        return [note.text for note in self.notes if note.kind is NoteKind.NOT_TIMED_AGAIN]

    def circumstances(self, key: str, of_run: Circumstances) -> Circumstances:
        """Return the circumstances of a new trial, made from the circumstances of its run."""
        clock = self.clocks[key].readings().detail.clock
        return replace(
            of_run,
            round_group=self.name,
            round_position=self.order.index(key),
            timing=clock,
        )


def _measured(clock: PassResult) -> dict[str, Measured] | None:
    """Return the measured times; ``None`` if a visit failed."""
    return None if clock.reading is None else dict(clock.reading.measurements)


def _times(clock: PassResult) -> dict[str, list[float]]:
    """Return the times of a stored trial; empty if it did not complete."""
    measured = clock.readings().measurements.items()
    return {
        name: list(times)
        for name, times in measured
        if name in TIMED and isinstance(times, Sequence) and not fault_of_value(name, times)
    }


def _notes(trial: TrialWithKey, clock: PassResult) -> list[Note]:
    """Return the notes on a stored trial that was timed again."""
    label = trial.spec.label()
    if clock.status != Status.COMPLETED:
        text = (
            f"the stored row {label} was timed again in turns with the new rows and did not "
            f"complete ({clock.status}: {clock.reason}): there is no ratio of times to this row"
        )
        return [Note(NoteKind.NOT_TIMED_AGAIN, text)]
    noted = clock.readings().notes
    return [
        Note(note.kind, f"{label}, timed again in turns with this row: {note.text}")
        for note in noted
    ]


def all_staged(store: Store, tell: Tell = lambda _: None) -> dict[str, GroupTimes]:
    """Return all times that interrupted runs have stored, by their staging key.

    Args:
        store: the results folder.
        tell: called with a message about each file that cannot be used; its group is timed again.
    """
    times_by_key = {}
    for key in store.staged_keys(STAGED):
        try:
            staged = store.staged(key, STAGED)
            if staged is not None:
                times_by_key[key] = GroupTimes.from_plain(staged)
        except BadInput as error:
            tell(unused(key, STAGED, error))
    return times_by_key


def left_by_interrupted(store: Store) -> frozenset[str]:
    """Return the keys of the trials whose times an interrupted run has stored."""
    return frozenset(key for times in all_staged(store).values() for key in times.clocks)


def drop_staged(store: Store, keys: Iterable[str]) -> None:
    """Delete the times that interrupted runs have stored for any of these trials."""
    unwanted = set(keys)
    for key, times in all_staged(store).items():
        if unwanted & times.clocks.keys():
            store.unstage(key)
