"""Print the predicted peak of a GPU's allocator by parts, beside what an H100 allocated.

    python -m tests.harness.predict.h100_parts

The ten rows are those of ``results/gpu-h100``. Nothing runs on a GPU.
"""

from pathlib import Path

import click

from bsrbench import methods
from bsrbench.harness.predict.estimate import estimate_pass
from bsrbench.harness.records.store import gather
from bsrbench.harness.records.trial_record import TrialRecord

RECORDS = Path(__file__).resolve().parents[3] / "results" / "gpu-h100"
ALLOCATED = "peak_allocated_bytes"
LEAST_NAMED = 4e6  # smaller parts stand together in the last column
MEGA = 1e6


def line(record: TrialRecord) -> str:
    """Return a row of the table.

    Args:
        record: a record of the H100.
    """
    estimated = estimate_pass(record.spec, methods.load).detail.estimated_allocated
    predicted = {} if estimated is None else estimated.parts
    measured, total = record.measurements[ALLOCATED], sum(predicted.values())
    named = {name: size for name, size in predicted.items() if size >= LEAST_NAMED}
    rest = total - sum(named.values())
    parts = "; ".join(f"{name}: {size / MEGA:,.1f}" for name, size in named.items())
    numbers = f"{measured / MEGA:,.1f} | {total / MEGA:,.1f} | {total / measured - 1:+.3%}"
    return f"| {record.label()} | {numbers} | {parts} | {rest / MEGA:,.1f} |"


def main() -> None:
    """Print the table."""
    records = [r for r in gather([RECORDS]).records if r.spec.workload.image_size]
    click.echo(
        "Predicted by the present code, measured on one H100 at commit 4709244; 10⁶ bytes.\n"
    )
    click.echo("| row | allocated | predicted | difference | parts of at least 4 | smaller parts |")
    click.echo("| --- | ---: | ---: | ---: | --- | ---: |")
    for record in sorted(records, key=lambda record: record.measurements[ALLOCATED]):
        click.echo(line(record))


if __name__ == "__main__":
    main()
