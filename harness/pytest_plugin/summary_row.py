"""The summary row of one test, as plain text that can be sent between processes."""

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class SummaryRow:
    """One test's row in the table, with its notes and failures.

    Attributes:
        test: pytest's id of the test.
        cells: the cells of the row.
        notes: what a reader of the numbers must know.
        failures: why the gate fails; empty if it does not.
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
