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
    help="Identical pairs to time; 20 show how often this machine sees a difference in nothing.",
)
def doctor(pairs: int) -> None:
    """Say what can be measured on this machine, and how well.

    Every meter reads something that is known. Ends with exit code 1 if one is off.

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
        stop(f"off: {', '.join(off)}", FAILED)
    say("everything that can be measured here reads as it should")
