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
@click.option(
    "--device",
    "devices",
    multiple=True,
    help="Examine only this device (cpu, cuda, cuda:1, mps, xpu); can be repeated. The default is "
    "every device of this machine.",
)
def doctor(pairs: int, devices: tuple[str, ...]) -> None:
    """Report what can be measured on this machine, and how accurately.

    Every meter measures a known quantity on every device. The exit code is 1 if a reading is wrong.
    Records that are made later on this machine contain which checks their device passed.

    \b
    Examples:
      bsrbench doctor
      bsrbench doctor --device cuda
      bsrbench doctor --pairs 20
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.doctor.examination import examine

    off = []
    for finding in examine(make_launcher(), pairs, devices):
        say(f"{MARKS[finding.good]} {finding.device} {finding.what}: {finding.message}")
        if finding.good is False:
            off.append(f"{finding.device} {finding.what}")
    if off:
        stop(f"wrong readings: {', '.join(off)}", FAILED)
    say("every meter on this machine reads the expected value")
