"""Probe every method, every pair and every tuner of peft, and write the page of capabilities."""

import itertools

import click
import torch

from bsrbench import methods
from bsrbench.harness.conformance.subject import tiny_model
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Unsupported
from tests.capabilities import tables
from tests.capabilities.probes import pair, probe, subjects, tuner_subjects


@click.command()
@click.option("--tuners/--no-tuners", default=True, help="Probe the tuners of peft, too.")
def main(*, tuners: bool) -> None:
    """Probe everything and write the tables and the page."""
    torch.set_num_threads(1)
    found = [tables.as_row(probe(subject.name, subject)) for subject in subjects()]
    tables.write(tables.METHODS, found)
    click.echo(f"{len(found)} methods")
    pairs = [
        {"first": a, "second": b, "outcome": pair(a, b)}
        for a, b in itertools.permutations(methods.names(), 2)
        if not methods.find(a).follows
    ]
    tables.write(tables.PAIRS, pairs)
    click.echo(f"{sum(row['outcome'] == 'yes' for row in pairs)} of {len(pairs)} pairs")
    if tuners:
        _probe_tuners()
    parameters = sum(p.numel() for p in tiny_model().parameters())
    (tables.FOLDER / tables.PAGE).write_text(tables.page(parameters), encoding="utf-8")


def _probe_tuners() -> None:
    """Probe every tuner of the installed peft and write their tables."""
    found, refused = [], []
    for tuner, subject in tuner_subjects():
        try:
            found.append(tables.as_row(probe(tuner, subject)))
        except (Unsupported, BadInput) as reason:
            refused.append({"name": tuner, "reason": " ".join(str(reason).split())})
        click.echo(f"{tuner}: {len(found)} probed, {len(refused)} refused")
    tables.write(tables.TUNERS, found)
    tables.write(tables.REFUSED, refused)


if __name__ == "__main__":
    main()
