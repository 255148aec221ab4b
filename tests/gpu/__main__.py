"""Show what a GPU has to show: doctor, the tests that need a GPU, the suite and its goals."""

import importlib.util
import os
import shlex
import signal
import sys
from pathlib import Path

import click

from bsrbench.harness.cli.availability import require_devices
from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec import suite_file
from tests.gpu.steps import Ended, Step, do, marked_tests

MOST_JOBS = 8  # each has a context on the GPU and a few hundred MB of main memory
NO_PYTEST = "pytest is not installed (pip install pytest)"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="results/local/gpu-checks")
@click.option("--device", default="cuda", show_default=True, help="The device to show.")
@click.option("--suite", default="gpu", show_default=True, help="A suite's name or file.")
@click.option("--jobs", type=click.IntRange(1), help="The default depends on the cores.")
@click.option("--tests", help="Arguments of pytest; the default is every test that needs a GPU.")
@click.option("--again", is_flag=True, help="Also repeat steps that have passed.")
def main(
    out: Path, device: str, suite: str, jobs: int | None, tests: str | None, *, again: bool
) -> None:
    """Run doctor, the tests that need a GPU, and a suite; write everything into a folder.

    If the command is killed, the same command continues: steps that have passed are not repeated,
    unless a source file has changed, and the suite keeps its records. The exit code is 1 if a step
    has failed, and 2 if the device is missing. A missed goal does not change the exit code.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        require_devices([device])
        path = suite_file.find(suite).resolve()
        threads = suite_file.read(path).workload.threads
    except BadInput as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    at_once = jobs or max(1, min(MOST_JOBS, len(os.sched_getaffinity(0)) // threads))
    arguments = shlex.split(tests) if tests else ["-m", "cuda", *marked_tests()]
    without_pytest = "" if importlib.util.find_spec("pytest") else NO_PYTEST
    plugins = ("-p", "no:cacheprovider", "-q")
    running = ("--device", device, "--results", str(out / "results"), "--jobs", str(at_once))
    steps = [
        Step("doctor", ("-m", "bsrbench", "doctor")),
        Step("tests", ("-m", "pytest", *plugins, *arguments), missing=without_pytest),
        Step("suite", ("-m", "bsrbench", "run", str(path), *running), resumes=True),
    ]
    ended = do(steps, out, again=again)
    _summarise(ended, out)
    sys.exit(0 if all(each.code == 0 for each in ended) else 1)


def _summarise(ended: list[Ended], out: Path) -> None:
    """Write ``summary.md``: how each step ended, and the goals; print how each step ended."""
    rows = [f"| {each.step} | {each.words()} | {each.seconds:.0f} s |" for each in ended]
    lines = ["# What the device showed", "", "| step | outcome | time |", "| --- | --- | ---: |"]
    goals = out / "results" / "goals.md"
    text = "\n".join([*lines, *rows]) + "\n"
    if goals.exists():
        text += "\n" + goals.read_text().replace("\n## ", "\n### ").replace("# ", "## ", 1)
    (out / "summary.md").write_text(text)
    for each in ended:
        click.echo(f"{each.step}: {each.words()}, {each.seconds:.0f} s")
    click.echo(f"summary: {out / 'summary.md'}; report: {out / 'results' / 'report.html'}")


if __name__ == "__main__":
    main()
