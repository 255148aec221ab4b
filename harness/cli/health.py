"""The command that examines this machine."""

import click

from bsrbench.harness.cli.exits import FAILED, stop
from bsrbench.harness.cli.printing import say
from bsrbench.harness.cli.running import make_launcher

MARKS = {True: "ok ", False: "OFF", None: "   "}


@click.command()
@click.option(
    "--pairs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Pairs of identical trials to time. 20 pairs show how often this machine reports a "
    "difference where there is none.",
)
def doctor(pairs: int) -> None:
    """Report what can be measured on this machine, and how accurately.

    Every meter measures a known quantity. The exit code is 1 if a reading is wrong.

    \b
    Examples:
      bsrbench doctor
      bsrbench doctor --pairs 20
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.doctor import examine

    off = []
    for finding in examine(make_launcher(), pairs):
        say(f"{MARKS[finding.good]} {finding.what}: {finding.said}")
        if finding.good is False:
            off.append(finding.what)
    if off:
        stop(f"wrong readings: {', '.join(off)}", FAILED)
    say("every meter on this machine reads the expected value")
