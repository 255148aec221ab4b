"""The table of models by method: one row a model, sorted, so that changes can be read."""

import csv
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "results" / "models"
PATH, MEANINGS = FOLDER / "models.csv", FOLDER / "reasons.csv"
FACTS = ("model", "class", "structure", "parameters", "blocks", "side", "tokens")


@dataclass(frozen=True)
class Row:
    """A model and what came of each method.

    Attributes:
        model: its name in timm.
        cls: its class.
        structure: of its repeated blocks, 6 hex digits.
        parameters: with ten classes, at that side.
        blocks: in a row; 0 where the model has no such row.
        side: of the images it was walked at, in pixels.
        tokens: that enter the first block; 0 where the class is another than VisionTransformer.
        outcomes: by method, ``=`` or the key of a reason.
    """

    model: str
    cls: str
    structure: str
    parameters: int
    blocks: int
    side: int
    tokens: int
    outcomes: dict[str, str]

    def sizes(self) -> tuple[int, int, int, int]:
        """Return its numbers, in the order of the table."""
        return self.parameters, self.blocks, self.side, self.tokens


def write(rows: list[Row], path: Path = PATH) -> None:
    """Write the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        names = sorted(rows[0].outcomes)
        out.writerow([*FACTS, *names])
        for row in sorted(rows, key=lambda row: row.model):
            outcomes = (row.outcomes[name] for name in names)
            out.writerow([row.model, row.cls, row.structure, *row.sizes(), *outcomes])


def write_meanings(meanings: dict[str, str], path: Path = MEANINGS) -> None:
    """Write what the keys of reasons mean."""
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerows([("reason", "meaning"), *sorted(meanings.items())])


def read(path: Path = PATH) -> list[Row]:
    """Return the rows of the table."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(found) for found in csv.DictReader(file)]


def _row(found: dict[str, str]) -> Row:
    model, cls, structure, *numbers = (found[name] for name in FACTS)
    outcomes = {name: what for name, what in found.items() if name not in FACTS}
    return Row(model, cls, structure, *map(int, numbers), outcomes=outcomes)
