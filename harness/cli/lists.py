"""The command that lists methods, suites, models, data sets and metrics."""

import click

from bsrbench.harness.cli.printing import say


@click.command("list")
@click.argument(
    "what",
    type=click.Choice(
        ["methods", "suites", "models", "data", "metrics", "suite-schema", "record-schema"]
    ),
)
@click.option("--long", "in_full", is_flag=True, help="Show the description of each method.")
def list_(what: str, in_full: bool) -> None:
    """List methods, suites, models, data sets or metrics, or print a JSON Schema.

    Editors use the schema to complete suite files. Write it to a file with 'bsrbench list
    suite-schema > suite.schema.json', and start the suite with '#:schema ./suite.schema.json'.

    \b
    Examples:
      bsrbench list methods --long
      bsrbench list suite-schema > suite.schema.json
    """  # noqa: D301 - click's mark for text that is not wrapped
    if what == "suites":
        from bsrbench.harness.spec import suite_file

        lines = [
            f"{name}: {suite_file.read(suite_file.find(name)).description}"
            for name in suite_file.names()
        ]
    elif what == "data":
        from bsrbench.harness.workload import data

        lines = data.names()
    elif what == "metrics":
        lines = _metric_lines()
    elif what.endswith("-schema"):
        lines = [_schema(what)]
    elif what == "models":
        from bsrbench.harness.workload import models

        lines = models.names()
    else:
        lines = _method_lines(in_full=in_full)
    say("\n".join(lines))


def _schema(what: str) -> str:
    import json

    from bsrbench.harness.records.trial_record import record_schema
    from bsrbench.harness.spec.suite import Suite

    schema = Suite.model_json_schema() if what == "suite-schema" else record_schema()
    return json.dumps(schema, indent=1)


def _metric_lines() -> list[str]:
    from bsrbench.harness.records.metrics import METRICS

    lines = ["# Metrics", "", "| name | unit | better | definition |", "| --- | --- | --- | --- |"]
    for name, metric in METRICS.items():
        kind = "samples: " if metric.samples else ""
        lines.append(
            f"| `{name}` | {metric.unit} | {metric.direction} | {kind}{metric.definition} |"
        )
    return lines


def _method_lines(*, in_full: bool) -> list[str]:
    import inspect

    from bsrbench import methods

    if not in_full:
        return methods.names()
    lines = []
    for name in methods.names():
        method = methods.find(name)
        lines += [name, f"  source: {method.source}"]
        if method.devices:
            lines.append(f"  devices: {', '.join(sorted(method.devices))}")
        lines += [f"  {line}".rstrip() for line in inspect.getdoc(method).splitlines()]  # type: ignore[union-attr]  # conformance tests ask for a docstring
        lines.append("")
    return lines
