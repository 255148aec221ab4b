"""Commands on one workload: profile, estimate, fit."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bsrbench.harness.cli.completion import method_names
from bsrbench.harness.cli.exits import FAILED, stop
from bsrbench.harness.cli.printing import cell, say
from bsrbench.harness.cli.running import RunOptions, make_launcher, open_store, run_trials
from bsrbench.harness.cli.settings import nested, size_in_bytes
from bsrbench.harness.cli.shared_options import LIMIT_OPTIONS, gathers, with_options
from bsrbench.harness.cli.workload_options import (
    METHOD_OPTIONS,
    WORKLOAD_OPTIONS,
    WorkloadOptions,
)
from bsrbench.harness.errors import BadInput, explain
from bsrbench.harness.spec.workload_axes import AXES, AxisValue

if TYPE_CHECKING:
    from bsrbench.harness.fit import Fit
    from bsrbench.harness.method import Method
    from bsrbench.harness.records.pass_readings import PassReadings
    from bsrbench.harness.spec.row_name import RowLabel
    from bsrbench.harness.spec.trial_spec import Profile, TrialSpec


@click.command()
@with_options(*WORKLOAD_OPTIONS[:1], *METHOD_OPTIONS, *WORKLOAD_OPTIONS[1:])
@click.option(
    "--rounds",
    type=int,
    help="Number of rounds in each of 5 generations of new processes; 0 disables timing. By "
    "default, rounds are added until the interval of the time is within 3 %, or for 10 s.",
)
@with_options(*LIMIT_OPTIONS)
@gathers(WorkloadOptions, "workload")
def profile(
    as_json: bool,
    timeout: float | None,
    memory_limit: str | None,
    rounds: int | None,
    method: str,
    batch: int,
    options: tuple[str, ...],
    workload: WorkloadOptions,
) -> None:
    """Measure one method: peak memory, FLOPs and time of an optimizer step.

    No data or pretrained weights are needed: both are generated from a seed.

    \b
    Examples:
      bsrbench profile --model deit_small_patch16_224 --method bsr --batch 8
      bsrbench profile --model deit_small_patch16_224 --method bsr+int8 --batch 8 \\
        --option 'bsr.trained_blocks=[5, 9]' --option int8.stochastic=false --json
    """  # noqa: D301 - click's mark for text that is not wrapped
    import tempfile

    from bsrbench.harness.launch.processes import fork_server
    from bsrbench.harness.records.trial_record import plain_record

    spec = workload.spec("profile", method, nested(options), batch, _timing(rounds))
    run_options = RunOptions(timeout=timeout, memory_limit=memory_limit, announces=False)
    with tempfile.TemporaryDirectory(dir=fork_server.server().folder) as folder:
        (record,) = run_trials(open_store(Path(folder)), [spec], run_options)
    if as_json:
        say(json.dumps(plain_record(record), indent=1))
    else:
        _print(spec, record.measurements, [note.text for note in record.notes], {})
    if record.outcome.status != "completed":
        stop(f"{record.outcome.status}: {record.outcome.reason}", FAILED)


def _timing(rounds: int | None) -> "Profile":
    """Return how a profile is timed; an explicit number of rounds is used exactly."""
    from pydantic import ValidationError

    from bsrbench.harness.spec.trial_spec import Profile

    try:
        return Profile() if rounds is None else Profile(rounds=rounds, budget_seconds=0.0)
    except ValidationError as error:
        raise explain(error, "profile") from error


@click.command()
@with_options(*WORKLOAD_OPTIONS[:1], *METHOD_OPTIONS, *WORKLOAD_OPTIONS[1:])
@gathers(WorkloadOptions, "workload")
def estimate(
    as_json: bool, method: str, batch: int, options: tuple[str, ...], workload: WorkloadOptions
) -> None:
    """Predict what 'profile' would measure, without executing anything and without the device.

    Runs the same step with the same meters on meta tensors, which have shapes but no values.
    For an NVIDIA GPU (--device cuda, also where there is none), the allocator's peak is predicted
    as well, part by part. The estimated peak itself does not include workspaces inside operators.

    \b
    Examples:
      bsrbench estimate --model vit_base_patch16_224 --method bsr --batch 128
      bsrbench estimate --model vit_base_patch16_224 --method full --batch 128 --device cuda
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench import methods
    from bsrbench.harness.predict.estimate import predict
    from bsrbench.harness.predict.memory_budget import fitting
    from bsrbench.harness.trial.trial_passes import failure

    spec = workload.spec("estimate", method, nested(options), batch, _timing(None))
    try:
        load = fitting(spec, methods.load)
        prediction = predict(spec, load)
    except BadInput:
        raise
    except Exception as error:  # noqa: BLE001 - an error in an author's code becomes an outcome
        failed = failure(error)
        stop(f"{failed.status}: {failed.reason}", FAILED)
    notes = [note.text for note in prediction.notes]
    if "peak_estimated_bytes" in prediction.measurements:
        notes.append("the estimated peak does not include workspaces inside operators")
    if load is not methods.load:
        notes.append(_chosen(spec, load(spec.method)))
    missing = {metric: absence.text for metric, absence in prediction.missing.items()}
    if as_json:
        say(json.dumps(_plain(spec, prediction, notes, missing), indent=1))
    else:
        _print(spec, prediction.measurements, notes, missing)
        _print_parts(prediction)


def _chosen(spec: "TrialSpec", method: "Method") -> str:
    """Return what a method has chosen to meet its budget."""
    facts = method.environment(spec.workload.device.partition(":")[0])
    return ", ".join(["chosen for the budget", *(f"{k} = {v}" for k, v in facts.items())])


def _plain(
    spec: "TrialSpec", prediction: "PassReadings", notes: list[str], missing: dict[str, str]
) -> dict[str, Any]:
    """Return the data of a prediction that --json prints."""
    import msgspec

    return {
        "spec": spec.model_dump(mode="json"),
        "measurements": prediction.measurements,
        "missing": missing,
        "notes": notes,
        "detail": msgspec.to_builtins(prediction.detail.estimated or {}),
        "allocated": msgspec.to_builtins(prediction.detail.estimated_allocated),
        "facts": {},
        "attention_kernel": prediction.attention_kernel,
    }


@click.command()
@with_options(*WORKLOAD_OPTIONS)
@click.option(
    "--memory", required=True, help="Memory for tensors and workspaces: 512MiB, 2GiB, 4GB."
)
@click.option(
    "--methods",
    "chosen",
    shell_complete=method_names,
    help="Row labels, separated by commas: 'bsr (trained_blocks=[11])', 'bsr*'. The default is all "
    "methods.",
)
@click.option(
    "--check/--no-check",
    default=True,
    help="Run a step at the resulting batch, on the device. This needs the memory.",
)
@gathers(WorkloadOptions, "workload")
def fit(
    as_json: bool, memory: str, chosen: str | None, check: bool, workload: WorkloadOptions
) -> None:
    """Find the largest batch of each method that fits in a given amount of memory.

    --memory does not include code, libraries and the CUDA context. For an NVIDIA GPU the prediction
    includes workspaces; the table says how much of the GPU's free memory would be left.

    \b
    Examples:
      bsrbench fit --model deit_small_patch16_224 --memory 1GiB
      bsrbench fit --model deit_small_patch16_224 --memory 512MiB --methods bsr,bsr+int8 --no-check
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench import methods
    from bsrbench.harness.fit import fit as find

    limit = size_in_bytes("--memory", memory)
    labels = _labels(chosen, {axis: getattr(workload, axis) for axis in AXES})
    specs = [_to_fit(label, workload) for label in labels]
    for spec in specs:
        methods.load(spec.method, **spec.options)
    launcher = make_launcher()
    fits = [find(spec, limit, launcher, check=check) for spec in specs]
    labelled = [replace(fit, method=str(label)) for fit, label in zip(fits, labels, strict=True)]
    if as_json:
        say(json.dumps([asdict(fit) for fit in labelled], indent=1))
    else:
        _print_fits(labelled, limit)


def _labels(requested: str | None, axes: Mapping[str, AxisValue]) -> "list[RowLabel]":
    """Return the requested rows, or the plain row of every method if none was requested."""
    from bsrbench import methods
    from bsrbench.harness.spec.label_grammar import split_at_commas
    from bsrbench.harness.spec.row_choice import ANYTHING, ListedRow, pick, unknown_row
    from bsrbench.harness.spec.row_name import RowLabel

    plain = [RowLabel(name) for name in methods.alone()]
    if requested is None:
        return plain
    listed = [ListedRow(label, label.name(axes), axes, {}) for label in plain]
    chosen: dict[str, RowLabel] = {}
    for name in split_at_commas(requested):
        labels = [plain[place] for place in pick(name, listed).places] or [RowLabel.parse(name)]
        if any(label.apart or ANYTHING.search(label.method) for label in labels):
            raise unknown_row(name, listed, "among the methods")
        chosen |= {str(label): label for label in labels}
    return list(chosen.values())


def _to_fit(label: "RowLabel", options: WorkloadOptions) -> "TrialSpec":
    """Return the trial of a row at its smallest possible batch."""
    workload = options.on_axes(label.axes)
    if workload.micro_batch and workload.optimizer_in_backward:
        raise BadInput(
            "fit: --optimizer-in-backward needs the whole batch in one backward pass, but "
            "--micro-batch splits it: leave out one of the two"
        )
    batch = max(1, workload.micro_batch or 1)
    return workload.spec("fit", label.method, dict(label.options), batch, _timing(None))


def _print(
    spec: "TrialSpec", values: Mapping[str, Any], notes: list[str], missing: dict[str, str]
) -> None:
    from bsrbench.harness.records.metrics import METRICS

    say(f"{spec.label()} on {spec.workload.model}: random weights, noise images")
    for name, metric in METRICS.items():
        value = values.get(name)
        if value is not None:
            shown = json.dumps(value) if isinstance(value, list) else f"{value:,}"
            say(f"  {name} = {shown} {metric.unit}".rstrip())
    for name, why in missing.items():
        say(f"  {name}: none ({why})")
    for note in notes:
        say(f"  note: {note}")


def _print_parts(prediction: "PassReadings") -> None:
    """Print the parts of the predicted peak of a GPU's allocator."""
    allocated = prediction.detail.estimated_allocated
    if allocated is None:
        return
    place = allocated.place
    at = f" at {place.operator} of {place.module or 'no module'}, {place.phase}" if place else ""
    say(f"  parts of the allocated peak{at}:")
    for name, size in allocated.parts.items():
        say(f"    {size:>18,} B  {name}")


def _print_fits(fits: "list[Fit]", limit: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from bsrbench.reports import units

    table = Table(box=SIMPLE_HEAD)
    titles = ["method", "largest batch", "peak MiB", "from", "head-room MiB", "1 image MiB"]
    on_gpu = any(row.device_bytes is not None for row in fits)
    for title in [*titles, *(["left on the GPU MiB"] if on_gpu else [])]:
        table.add_column(title, justify="left" if title == "method" else "right")
    for row in fits:
        peak = row.peak_bytes()
        room = None if peak is None else limit - peak
        source = "allocator" if row.allocated_bytes else "estimate"
        table.add_row(
            cell(row.method),
            cell(row.reason) if row.batch is None else str(row.batch),
            units.mebibytes(peak),
            "" if peak is None else source,
            units.mebibytes(room),
            units.mebibytes(row.smallest_bytes),
            *([units.mebibytes(row.left_on_device_bytes())] if on_gpu else []),
        )
    Console().print(table)
