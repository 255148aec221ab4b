"""Find the rows that the user means by a name; every command uses this rule."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bsrbench.harness.errors import BadInput, shortened
from bsrbench.harness.spec.row_name import Apart, RowLabel, RowName
from bsrbench.harness.spec.workload_axes import AxisValue

ANYTHING = re.compile("[*…]+")  # a table puts "…" where it truncates a label
CUT = "…"
LISTED, NEAREST = 20, 3


@dataclass(frozen=True)
class ListedRow:
    """A row that the user can name.

    Attributes:
        label: its printed label.
        name: its identity.
        beside: the usual axes, which labels leave out.
        apart: what distinguishes it from other rows with the same name.
    """

    label: RowLabel
    name: RowName
    beside: Mapping[str, AxisValue]
    apart: Apart

    def is_meant_by(self, label: RowLabel) -> bool:
        """Return whether a label names this row, alone or among others."""
        return self.name == label.name(self.beside) and self.has(label.apart)

    def has(self, apart: Apart) -> bool:
        """Return whether this row has all the given distinguishing values."""
        return all(kind in self.apart and self.apart[kind] == apart[kind] for kind in apart)


@dataclass(frozen=True)
class Picked:
    """The rows that a name means.

    Attributes:
        places: indices of the rows; empty if the name is unknown.
        said: message for the user, if the name was not exactly the label of a row.
    """

    places: tuple[int, ...] = ()
    said: str = ""


def pick(text: str, rows: Sequence[ListedRow]) -> Picked:
    """Return the rows that a name means.

    A label means the row with this label; a method alone is the label of its plain row, without
    options and axes. ``*`` matches any text (``full*``). So does ``…``, which a table puts where it
    truncates a label, but it must match one row only. If a method has no plain row, its name means
    its only row.

    Raises:
        BadInput: several rows could be meant.
    """
    parsed = label_of(text)
    for label in (parsed, RowLabel(text)):  # the second for a method whose name looks like a label
        places = _places(rows, (label is not None and row.is_meant_by(label) for row in rows))
        if places:
            return Picked(places)
    if ANYTHING.search(text):
        return _matching(text, rows)
    return _only_row(text, parsed, rows) if parsed else Picked()


def label_of(text: str) -> RowLabel | None:
    """Return the label that was typed; ``None`` if the text is not a label."""
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


def _only_row(text: str, parsed: RowLabel, rows: Sequence[ListedRow]) -> Picked:
    """Return the only row of a method that has no plain row."""
    if not parsed.is_plain():
        return Picked()
    places = _places(
        rows, (row.name.method == parsed.method and row.has(parsed.apart) for row in rows)
    )
    if not places:
        return Picked()
    _require_one(text, rows, places)
    label = rows[places[0]].label
    return Picked(places, f"{shortened(text)!r} means {typed(label)}, the only row of this method")


def _require_one(text: str, rows: Sequence[ListedRow], places: Sequence[int]) -> None:
    if len({rows[place].name for place in places}) > 1:
        labels = dict.fromkeys(typed(rows[place].label) for place in places)
        raise BadInput(
            f"{shortened(text)!r} could mean {', '.join(list(labels)[:LISTED])}: give one of these "
            "labels, or a pattern with * for all of them"
        )


def typed(label: RowLabel) -> str:
    """Return a label quoted for the shell."""
    quoted = str(label).replace("'", "'\\''")
    return f"'{quoted}'"


def unknown_row(text: str, rows: Iterable[ListedRow], where: str) -> BadInput:
    """Return the error for a name that means no row; it suggests the nearest labels."""
    labels = {str(row.label): typed(row.label) for row in rows}
    text = shortened(text)  # comparing long texts takes minutes
    near = difflib.get_close_matches(text, labels, n=NEAREST, cutoff=0.5)
    hint = f"; did you mean {' or '.join(labels[label] for label in near)}?" if near else ""
    there = sorted(labels.values())
    listed = ", ".join(there[:LISTED]) + (", ..." if len(there) > LISTED else "")
    return BadInput(f"no row {text!r} {where}{hint} (there are: {listed or 'none'})")
