"""How commands behave towards people: examples, completion, colours, what is said beforehand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bsrbench.harness.cli import main

ROOT = Path(__file__).resolve().parents[3]


def parts_of(name):
    return getattr(main.commands[name], "commands", {})


BELOW = [f"{name} {part}" for name in main.commands for part in parts_of(name)]


@pytest.mark.parametrize("name", ["", *main.commands, *BELOW])
def test_every_help_has_an_example_that_parses(name, typed):
    code, said = typed(*name.split(), "--help")
    examples = [line.strip() for line in said.splitlines() if line.startswith("    bsrbench ")]

    assert code == 0
    assert examples
    for line in examples:
        words = line.removesuffix("\\").split()
        assert words[1] in main.commands
        assert words[1 : 1 + len(name.split())] == name.split()


def complete(words, shell="bash"):
    """Ask the program as the printed script would."""
    settings = {"_BSRBENCH_COMPLETE": f"{shell}_complete", "COMP_WORDS": words}
    settings["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    code = "from bsrbench.harness.cli import main; main(prog_name='bsrbench')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return [line.partition(",")[2] for line in done.stdout.split()]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("bsrbench com", {"compare", "completion"}),
        ("bsrbench run qui", {"quick", "qui"}),
        ("bsrbench check bsr+int", {"bsr+int2", "bsr+int4", "bsr+int8", "bsr+int8w"}),
        ("bsrbench run quick --methods full,che", {"full,checkpoint"}),
    ],
)
def test_a_shell_completes_commands_suites_and_methods(words, found):
    assert set(complete(words)) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_asks_this_program(shell, typed):
    code, said = typed("completion", shell)

    assert code == 0
    assert f"_BSRBENCH_COMPLETE={shell}_complete" in said


def test_no_color_is_respected():
    """Even where colour is forced, the user's NO_COLOR wins: the words stay, the colours go."""
    command = [
        sys.executable,
        "-m",
        "bsrbench",
        "compare",
        "bsr",
        "full",
        "--results",
        "results/quick",
    ]
    printed = [
        subprocess.run(
            command, env=os.environ | extra, capture_output=True, text=True, cwd=ROOT, check=True
        ).stdout
        for extra in ({"FORCE_COLOR": "1"}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, {})
    ]

    assert "\x1b[3" in printed[0]
    assert "\x1b[3" not in printed[1]
    assert "\x1b" not in printed[2]


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ("full", "full"),  # quick has 'full (micro-batch 1)', too
        ("full (micro-batch 1),head", "full (micro-batch 1), head"),
        ("full*", "full, full (micro-batch 1)"),
    ],
)
def test_a_row_is_what_was_asked_for(asked, rows, typed, tmp_path):
    code, said = typed(
        *("run", "quick", "--methods", asked, "--seeds", "1", "--dry-run"),
        *("--set", 'workload.weights="random"', "--results", tmp_path / "results"),
        *("--set", 'workload.model="test_vit"', "--set", "workload.image_size=32"),
    )

    assert code == 0
    assert f"to run: {rows}; seed 0" in said


def test_a_dry_run_says_what_it_would_do_and_does_nothing(typed, tmp_path):
    code, said = typed(
        *("run", "quick", "--methods", "head", "--seeds", "1", "--dry-run"),
        *("--set", 'workload.weights="random"', "--results", tmp_path / "results"),
    )

    assert code == 0
    assert "2 trials to run: head; seed 0" in said
    assert "workload: model vit_small_patch14_dinov2" in said
    assert "takes about" in said
    assert list((tmp_path / "results" / "records").iterdir()) == []
