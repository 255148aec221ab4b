"""What the summary says of one test; plain text, so that it travels between processes."""

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class SummaryRow:
    """One test's line in the table, and what must be said about it.

    Attributes:
        test: pytest's id of it.
        cells: the line, cell by cell.
        notes: what a reader of the numbers must know.
        failures: why the gate fails; nothing where it does not.
    """

    test: str
    cells: list[str]
    notes: list[str]
    failures: list[str]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the row that ``to_json`` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return the row as text."""
        return json.dumps(asdict(self))
