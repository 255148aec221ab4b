"""The tables of what was probed, and the page that is made of them."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path

from tests.capabilities.probes import YES, Probed

FOLDER = Path(__file__).resolve().parents[2] / "results" / "capabilities"
METHODS, TUNERS, PAIRS, REFUSED, PAGE = (
    "methods.csv",
    "tuners.csv",
    "pairs.csv",
    "refused.csv",
    "capabilities.md",
)
PEFT = "0.21.2"  # the version whose tuners were probed
HEADER = "| {what} | trained | logits | one graph | bf16 | held | weights | needs values |"
RULE = "| --- | ---: | --- | --- | --- | ---: | ---: | --- |"

HEAD = """# Capabilities

This page says what each method can do. `tox -e capabilities` makes it: it does everything that the
page says, with a vision transformer of 12 blocks and width 32, on a CPU. The files beside this page
have the same tables with all reasons: `methods.csv`, `tuners.csv`, `pairs.csv`, `refused.csv`.

- **trained**: number of parameters that train, of {parameters:,}.
- **logits**: whether they are those of the original model before training.
- **one graph**: whether `torch.compile` makes one graph of five blocks, and logits and gradients
  are those of eager mode.
- **bf16**: whether logits under bf16 autocast are near those in fp32, and gradients are finite.
- **held**: bytes that exist after the forward pass, relative to full fine-tuning. The model is so
  narrow that numbers of real models differ; less than 1 is a saving.
- **weights**: bytes of parameters and buffers, relative to the original model.
- **needs values**: whether a step depends on values of tensors, so that memory cannot be predicted.

Devices other than CPUs were not probed. Every method can be used on every device unless the column
*made for* of `methods.csv` names one.
"""


NOT_USABLE = """### Tuners that cannot be used

These are in the installed peft, but peft cannot apply them to the layers of a vision transformer,
or they need more settings or another model."""


def write(name: str, rows: Iterable[Mapping[str, str]], folder: Path = FOLDER) -> None:
    """Write a table with one row per mapping; all have the keys of the first."""
    listed = list(rows)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(listed[0]), lineterminator="\n")
        out.writeheader()
        out.writerows(listed)


def read(name: str, folder: Path = FOLDER) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def as_row(found: Probed) -> dict[str, str]:
    """Return what was found as a row of a table."""
    return asdict(found)


def columns() -> list[str]:
    """Return the columns of the tables of methods and tuners."""
    return [field.name for field in fields(Probed)]


def page(parameters: int, folder: Path = FOLDER) -> str:
    """Return the page for a tiny model with so many parameters."""
    methods, tuners = read(METHODS, folder), read(TUNERS, folder)
    parts = [
        HEAD.format(parameters=parameters),
        "## Methods\n\nA method that only follows another is listed after one.",
        _table("method", methods),
        "## Combinations\n\n`a+b` prepares `a` and then `b`. Here both trained the tiny model.",
        _pairs(read(PAIRS, folder)),
        "## Tuners of peft\n\nEach is the method `peft` with the option `tuner`.",
        _table("tuner", tuners),
        _not_kept([*methods, *tuners]),
        NOT_USABLE,
        "\n".join(f"- `{row['name']}`: {row['reason']}" for row in read(REFUSED, folder)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(what: str, rows: list[dict[str, str]]) -> str:
    return "\n".join([HEADER.format(what=what), RULE, *map(_line, rows)])


def _line(row: dict[str, str]) -> str:
    logits = "exact" if row["exact_forward"] == YES else "changed"
    cells = [f"`{row['name']}`", f"{int(row['trained']):,}", logits]
    cells += [YES if row[key] == YES else "no" for key in ("compiles", "bf16")]
    cells += [row["held"] or "not on a CPU", row["weights"], row["needs_values"]]
    return f"| {' | '.join(cells)} |"


def _pairs(rows: list[dict[str, str]]) -> str:
    second = defaultdict(list)
    for row in rows:
        if row["outcome"] == YES:
            second[row["first"]].append(f"`{row['second']}`")
    lines = [f"| `{first}` | {', '.join(those)} |" for first, those in sorted(second.items())]
    return "\n".join(["| first | then |", "| --- | --- |", *lines])


def _not_kept(rows: list[dict[str, str]]) -> str:
    broken = [f"- `{row['name']}`: {row['broken']}" for row in rows if row["broken"]]
    title = "### Promises that are not kept"
    said = "The conformance checks (`bsrbench check`) say of these:"
    return "\n\n".join([title, said, "\n".join(broken)] if broken else [title, "None."])
