"""Which rows a person means by a name that was typed: one rule for every command."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bsrbench.harness.errors import BadInput, shortened
from bsrbench.harness.spec.row_name import Apart, RowLabel, RowName
from bsrbench.harness.spec.workload_axes import AxisValue

ANYTHING = re.compile("[*…]+")  # the second is where a table has cut a label
CUT = "…"
LISTED, NEAREST = 20, 3


@dataclass(frozen=True)
class ListedRow:
    """A row that may be asked for.

    Attributes:
        label: as it is printed.
        name: what it is known by.
        beside: the axes that go without saying where it stands.
        apart: whatever may tell it from others of its name.
    """

    label: RowLabel
    name: RowName
    beside: Mapping[str, AxisValue]
    apart: Apart

    def is_meant_by(self, label: RowLabel) -> bool:
        """Return whether a label names this row, alone or among others."""
        return self.name == label.name(self.beside) and self.has(label.apart)

    def has(self, apart: Apart) -> bool:
        """Return whether all of what tells rows apart is so of this row."""
        return all(kind in self.apart and self.apart[kind] == apart[kind] for kind in apart)


@dataclass(frozen=True)
class Picked:
    """The rows that a name means.

    Attributes:
        places: of the rows, among those that were there; none where the name is unknown.
        said: what a person must be told, where the rows are not those the name prints.
    """

    places: tuple[int, ...] = ()
    said: str = ""


def pick(text: str, rows: Sequence[ListedRow]) -> Picked:
    """Return the rows that a name means.

    A label means the row it prints; a method alone is the label of its plain row, without options
    and axes. ``*`` stands for anything (``full*``), and so does ``…`` where a table has cut a
    label, of one row only. Where the method named has no plain row, its only row is meant.

    Raises:
        BadInput: several rows could be meant.
    """
    wanted = label_of(text)
    for label in (wanted, RowLabel(text)):  # the second: a method whose name reads like a label
        places = _places(rows, (label is not None and row.is_meant_by(label) for row in rows))
        if places:
            return Picked(places)
    if ANYTHING.search(text):
        return _matching(text, rows)
    return _only_row(text, wanted, rows) if wanted else Picked()


def label_of(text: str) -> RowLabel | None:
    """Return the label that was typed; nothing where it is none."""
    try:
        return RowLabel.parse(text)
    except BadInput:
        return None


def _places(rows: Sequence[ListedRow], meant: Iterable[bool]) -> tuple[int, ...]:
    return tuple(place for place, is_meant in zip(range(len(rows)), meant, strict=True) if is_meant)


def _matching(text: str, rows: Sequence[ListedRow]) -> Picked:
    pattern = re.compile(".*".join(map(re.escape, ANYTHING.split(text))), re.DOTALL)
    places = _places(rows, (bool(pattern.fullmatch(str(row.label))) for row in rows))
    if CUT in text:
        _require_one(text, rows, places)
    return Picked(places)


def _only_row(text: str, wanted: RowLabel, rows: Sequence[ListedRow]) -> Picked:
    """Return the only row of a method that was named and has no plain row."""
    if not wanted.is_plain():
        return Picked()
    places = _places(
        rows, (row.name.method == wanted.method and row.has(wanted.apart) for row in rows)
    )
    if not places:
        return Picked()
    _require_one(text, rows, places)
    label = rows[places[0]].label
    return Picked(
        places, f"{shortened(text)!r} is taken as {typed(label)}, the only row of this method"
    )


def _require_one(text: str, rows: Sequence[ListedRow], places: Sequence[int]) -> None:
    if len({rows[place].name for place in places}) > 1:
        labels = dict.fromkeys(typed(rows[place].label) for place in places)
        raise BadInput(
            f"{shortened(text)!r} could mean {', '.join(list(labels)[:LISTED])}: name one of them, "
            "or all by a pattern with *"
        )


def typed(label: RowLabel) -> str:
    """Return a label as a shell takes it."""
    quoted = str(label).replace("'", "'\\''")
    return f"'{quoted}'"


def unknown_row(text: str, rows: Iterable[ListedRow], where: str) -> BadInput:
    """Return the error for a name that means none of the rows, with those that are near to it."""
    labels = {str(row.label): typed(row.label) for row in rows}
    text = shortened(text)  # to compare long texts takes minutes
    near = difflib.get_close_matches(text, labels, n=NEAREST, cutoff=0.5)
    hint = f"; did you mean {' or '.join(labels[label] for label in near)}?" if near else ""
    there = sorted(labels.values())
    listed = ", ".join(there[:LISTED]) + (", ..." if len(there) > LISTED else "")
    return BadInput(f"no row {text!r} {where}{hint} (there are: {listed or 'none'})")
