"""A command with several runs, such as search, checks each row once."""

import json

from bsrbench.harness.cli.running import RunOptions, run_trials
from bsrbench.harness.launch.planning.row_checks import CheckedRows
from bsrbench.harness.records.store import Store


def test_two_runs_of_one_command_check_a_row_once(make_spec, tmp_path, capsys):
    checked = CheckedRows()
    options = RunOptions(dry=True, announces=False, progress="json", checked=checked)
    for seed in (0, 1):
        run_trials(Store(tmp_path / "results"), [make_spec("full", seed=seed)], options)

    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [event["what"] for event in events if event["event"] == "progress"]
    assert told.count("checking full") == 1
