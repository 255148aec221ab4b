"""The command line: parse, wire, print. What a command needs is imported when it runs."""

import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from pydantic import ValidationError

from harness.errors import BadInput, explain, unknown

if TYPE_CHECKING:
    from harness.launch.run import Runner
    from harness.record import TrialRecord
    from harness.spec import LearningRateTry, TrialSpec
    from harness.store import Store
    from harness.suite import Suite

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
LOCAL_RESULTS = Path("results") / "local"


class Program(click.Group):
    """Turns bad input and Ctrl-C into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command.

        Exit codes: 1 a trial did not complete, 2 bad input, 130 Ctrl-C.
        """
        try:
            return super().invoke(ctx)
        except BadInput as error:
            _stop(f"error: {error}", BAD_INPUT)
        except KeyboardInterrupt:
            _stop("stopped: what was measured so far is stored; run again to go on", INTERRUPTED)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which is nearest."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown("command", args[0], self.commands)
        return super().resolve_command(ctx, args)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bsrbench", message="bsrbench %(version)s")
def main() -> None:
    """Compare memory-efficient fine-tuning of vision transformers with BSR.

    \b
    Examples:
      bsrbench run quick
      bsrbench profile --model deit_small_patch16_224 --method bsr --batch 8
      bsrbench list methods --long
    """  # noqa: D301 - click's mark for text that is not wrapped


@main.command()
@click.argument("suite")
@click.option("--results", type=click.Path(path_type=Path), help="Folder for records and report.")
@click.option(
    "--methods", help="Only these rows, joined by commas; others get the suite's defaults."
)
@click.option("--seeds", type=click.IntRange(min=1), help="Train with seeds 0 to N-1.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Dotted key, TOML value."
)
@click.option("--again", is_flag=True, help="Run trials that are stored already, too.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds a pass may take."
)
def run(
    suite: str,
    results: Path | None,
    methods: str | None,
    seeds: int | None,
    settings: tuple[str, ...],
    again: bool,
    timeout: float | None,
) -> None:
    """Run a suite's missing trials, then write and print its report.

    SUITE is a name ('bsrbench list suites') or a .toml file. Records go into
    results/local/SUITE unless --results says otherwise.
    """
    path, chosen = _read_suite(suite, settings, seeds)
    if methods is not None:
        chosen = chosen.choose([name.strip() for name in methods.split(",")])
    store = _store(results or LOCAL_RESULTS / path.stem)
    records = _run(store, chosen.trials(), timeout, again=again)
    _report(store, path.stem)
    if any(record.outcome.status != "completed" for record in records):
        sys.exit(FAILED)


@main.command()
@click.argument("suite")
@click.option("--results", type=click.Path(path_type=Path), help="Folder for the tries' records.")
@click.option("--seed", type=click.IntRange(min=0), default=1000, show_default=True)
def tune(suite: str, results: Path | None, seed: int) -> None:
    """Try the learning rates of every row and write the best into the suite file.

    Each row gets the same number of tries ('to_try'). They are read on the validation split, with
    a seed of their own.
    """
    from harness.suite import best_try, write_choices

    path, chosen = _read_suite(suite, (), None)
    store = _store(results or LOCAL_RESULTS / path.stem)
    trials = [chosen.tuning_trials(row, seed) for row in chosen.methods]
    records = iter(_run(store, [spec for row in trials for spec in row], None, again=False))
    tries = [[_as_try(next(records)) for _ in row] for row in trials]
    write_choices(path, tries)
    for row, tried in zip(trials, tries, strict=True):
        said = ", ".join(f"{t.learning_rate:g}: {t.validation_accuracy}" for t in tried)
        click.echo(f"{row[0].label()}: chose {best_try(tried):g} of {said}")


def _as_try(record: "TrialRecord") -> "LearningRateTry":
    """Return what a tuning trial found; one that did not complete has no accuracy."""
    from harness.spec import LearningRateTry

    accuracy = record.measurements["validation_accuracy_top1"]
    return LearningRateTry(
        learning_rate=record.spec.training.learning_rate if record.spec.training else 0,
        validation_accuracy=accuracy if isinstance(accuracy, float) else None,
    )


@main.command()
@click.option("--model", required=True, help="A timm model.")
@click.option("--method", required=True, help="A method, or several joined by '+'.")
@click.option("--batch", required=True, type=int, help="Images an optimizer step.")
@click.option("--micro-batch", type=int, help="Images a forward pass; gradients accumulate.")
@click.option("--image-size", type=int, help="Pixels; the model's own unless said.")
@click.option("--classes", type=int, default=10, show_default=True)
@click.option("--precision", default="fp32", show_default=True, help="fp32 or bf16 (autocast).")
@click.option("--optimizer", default="sgd", show_default=True, help="sgd (momentum 0.9) or adamw.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=int, help="CPU threads; all usable cores unless said.")
@click.option(
    "--rounds", type=int, default=3, show_default=True, help="Fresh processes to time in."
)
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="Method option, TOML."
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds a pass may take."
)
@click.option("--json", "as_json", is_flag=True, help="Print the record alone.")
def profile(
    options: tuple[str, ...], as_json: bool, timeout: float | None, **workload: Any
) -> None:
    """Measure one method: peak memory, FLOPs and time of a training step.

    No data and no weights are needed: both are drawn from a seed.
    """
    import os
    import tempfile

    from harness.spec import Profile, TrialSpec, Workload

    method, rounds = workload.pop("method"), workload.pop("rounds")
    workload["threads"] = workload["threads"] or len(os.sched_getaffinity(0))
    try:
        spec = TrialSpec(
            method=method,
            options=_nested(options),
            workload=Workload(data="noise", weights="random", **workload),
            profile=Profile(rounds=rounds),
        )
    except ValidationError as error:
        raise explain(error, "profile") from error
    with tempfile.TemporaryDirectory() as folder:
        (record,) = _run(_store(Path(folder)), [spec], timeout, again=False)
    if as_json:
        click.echo(json.dumps(record.model_dump(mode="json"), indent=1))
    else:
        _print_record(record)
    if record.outcome.status != "completed":
        _stop(f"{record.outcome.status}: {record.outcome.reason}", FAILED)


@main.command()
@click.argument("results", type=click.Path(path_type=Path))
def report(results: Path) -> None:
    """Make the documents of a results folder again from its records."""
    if not (results / "records").is_dir():
        raise BadInput(f"no folder {str(results / 'records')!r}; expected one that 'run' made")
    _report(_store(results), results.resolve().name)


@main.command("list")
@click.argument("what", type=click.Choice(["methods", "suites", "models", "data", "metrics"]))
@click.option("--long", "in_full", is_flag=True, help="Methods with their cards.")
def list_(what: str, in_full: bool) -> None:
    """List methods, suites, models, data sets or metrics."""
    if what == "suites":
        from harness import suite

        lines = [f"{name}: {suite.read(suite.find(name)).description}" for name in suite.names()]
    elif what == "data":
        from harness.workload import data

        lines = list(data.NAMES)
    elif what == "metrics":
        lines = _metric_lines()
    elif what == "models":
        from harness.workload import models

        lines = models.names()
    else:
        lines = _method_lines(in_full=in_full)
    click.echo("\n".join(lines))


def _metric_lines() -> list[str]:
    from harness.record import METRICS

    lines = ["# Metrics", "", "| name | unit | better | definition |", "| --- | --- | --- | --- |"]
    for name, metric in METRICS.items():
        kind = "samples: " if metric.samples else ""
        lines.append(
            f"| `{name}` | {metric.unit} | {metric.direction} | {kind}{metric.definition} |"
        )
    return lines


def _method_lines(*, in_full: bool) -> list[str]:
    import inspect

    import methods

    if not in_full:
        return methods.names()
    lines = []
    for name in methods.names():
        found = methods.find(name)
        lines += [name, f"  source: {found.source}"]
        lines += [f"  {line}".rstrip() for line in inspect.getdoc(found).splitlines()]  # type: ignore[union-attr]  # conformance tests ask for a docstring
        lines.append("")
    return lines


def _read_suite(name: str, settings: tuple[str, ...], seeds: int | None) -> "tuple[Path, Suite]":
    from harness import suite

    overrides = dict(_setting(text) for text in settings)
    if seeds is not None:
        overrides["seeds"] = list(range(seeds))
    path = suite.find(name)
    return path, suite.read(path, overrides)


def _setting(text: str) -> tuple[str, Any]:
    """Return key and value of ``key=value``, the value in TOML."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise BadInput(f"expected key=value, got {text!r}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise BadInput(
            f"{text!r}: {value!r} is not a TOML value (text stands in quotes, lists in [])"
        ) from error


def _nested(options: tuple[str, ...]) -> dict[str, Any]:
    """Return options as a table; ``int8.bits=8`` belongs to the part ``int8``."""
    table: dict[str, Any] = {}
    for text in options:
        key, value = _setting(text)
        part, dot, name = key.partition(".")
        if not dot:
            table[key] = value
        else:
            table.setdefault(part, {})[name] = value
    return table


def _store(folder: Path) -> "Store":
    from harness.store import Store

    return Store(folder)


def _run(
    store: "Store", specs: "list[TrialSpec]", timeout: float | None, *, again: bool
) -> "list[TrialRecord]":
    from rich.console import Console

    from harness.launch.progress import TerminalProgress

    console = Console(stderr=True)
    _load_methods(specs)
    with TerminalProgress(console) as progress:
        return _runner(store, progress, timeout).run(specs, again=again)


def _load_methods(specs: "list[TrialSpec]") -> None:
    """Find every mistake in methods and options before a process is started."""
    import methods

    for spec in specs:
        methods.load(spec.method, **spec.options)


def _runner(store: "Store", progress: Any, timeout: float | None) -> "Runner":
    import methods
    from harness.launch.local import LocalLauncher
    from harness.launch.run import Runner

    launcher = LocalLauncher(methods.load, timeout)
    return Runner(launcher, store, methods.fingerprint, progress)


def _report(store: "Store", title: str) -> None:
    from rich.console import Console

    from reports import terminal, write

    records, aside = store.records()
    for reason in aside:
        click.echo(f"set aside: {reason}", err=True)
    comparison = write.write(records, store.folder, f"bsrbench: {title}")
    terminal.show(comparison, Console())
    click.echo(f"report: {store.folder / 'report.html'}")


def _print_record(record: "TrialRecord") -> None:
    from harness.record import METRICS

    click.echo(f"{record.label()} on {record.spec.workload.model}: random weights, noise images")
    for name, metric in METRICS.items():
        value = record.measurements.get(name)
        if value is not None:
            shown = json.dumps(value) if isinstance(value, list) else f"{value:,}"
            click.echo(f"  {name} = {shown} {metric.unit}".rstrip())
    for note in record.notes:
        click.echo(f"  note: {note}")


def _stop(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)
