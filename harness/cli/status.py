"""The command that shows the progress of a run from another terminal."""

import json
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bsrbench.harness.cli.printing import say
from bsrbench.harness.errors import BadInput

if TYPE_CHECKING:
    from bsrbench.harness.records.store import Store


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def status(results: Path, as_json: bool) -> None:
    """Show the progress of the run that writes into RESULTS: what runs, what is done, time left.

    Also shows, for each machine, when its first trial began, when its last one finished, the time
    between them including pauses, and the total time of the passes.

    \b
    Example:
      bsrbench status results/local/quick
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.records.store import RECORDS, Store

    store = Store(results)
    if not (results / RECORDS).is_dir():
        raise BadInput(f"{results}: not a results folder; expected a results folder of 'run'")
    run_status, aside, doubt = _status(store)
    for reason in aside:
        say(f"set aside: {reason}", err=True)
    if doubt:
        say(f"note: {doubt}; the progress of the run is not known", err=True)
    if as_json:
        say(json.dumps(run_status, indent=1))
        return
    say(f"{run_status['records']} records, {run_status['not_completed']} of them not completed")
    for length in run_status["lengths"]:
        machine = f"machine {length['machine']}: " if len(run_status["lengths"]) > 1 else ""
        say(f"{machine}{length['said']}")
    say(_in_words(run_status))


def _status(store: "Store") -> tuple[dict[str, Any], list[str], str]:
    """Return the status, why records were set aside, and why the progress file was not used."""
    from dataclasses import asdict

    from bsrbench.harness.records.run_duration import run_lengths

    records, aside = store.records()
    failed = [record for record in records if record.outcome.status != "completed"]
    lengths = [asdict(length) | {"said": length.in_words()} for length in run_lengths(records)]
    run_status = {
        "records": len(records),
        "not_completed": len(failed),
        "unreadable": len(aside),
        "lengths": lengths,
    }
    try:
        count, doubt = store.progress(), ""
    except BadInput as error:
        count, doubt = None, str(error)
    if count is None:
        return run_status | {"state": "no run known"}, aside, doubt
    if count["state"] == "running" and _is_gone(count):
        count["state"] = "killed"
    return run_status | count, aside, doubt


def _is_gone(count: dict[str, Any]) -> bool:
    """Return whether the run's process has ended; ``False`` if it runs on another machine."""
    if count["host"] != platform.node():
        return False
    try:
        os.kill(count["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _in_words(run_status: dict[str, Any]) -> str:
    from bsrbench.harness.launch.run_tally import duration, left_later

    if "trials" not in run_status:
        return "no run has written its progress here"
    done = run_status["completed"] + run_status["failed"]
    line = (
        f"{run_status['state']}: {done} of {run_status['trials']} trials done, "
        f"{run_status['failed']} failed"
    )
    if run_status["state"] == "running":
        since = max(0.0, time.time() - run_status["at"])
        ago = duration(since)
        left = run_status["left_seconds"]
        ends = "" if left is None else f", about {duration(left_later(left, since))} left"
        return f"{line}{ends}; for {ago}: {run_status['what']} (process {run_status['pid']})"
    if run_status["state"] == "killed":
        return f"{line}; run the suite again to resume"
    return line
