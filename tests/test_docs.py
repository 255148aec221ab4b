"""Every command and every line of Python in the documentation works.

A ``console`` block with a title needs what its title says (a GPU, data, minutes): its commands
are only parsed. All others run, the blocks of a page in one folder, in order.
"""

import re
import shlex
from pathlib import Path

import click
import pytest

from harness.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITHOUT_COMMANDS = {"closed-form", "claims", "index", "report", "memory", "convention", "verdict"}


def blocks(page):
    return [
        (kind, bool(title.strip()), text) for kind, title, text in BLOCK.findall(page.read_text())
    ]


def commands(text):
    joined = text.replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def parse(line):
    """Parse a command as click does, and run nothing."""
    for part in line.split("&&"):
        words = shlex.split(part, comments=True)
        if words[0] == "bsrbench":
            command = main.commands[words[1]]
            command.make_context(words[1], words[2:], parent=click.Context(main))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_works(page, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = blocks(page)
    for kind, untried, text in found:
        if kind == "python":
            exec(compile(text, str(page), "exec"), {})  # noqa: S102 - our own documentation
        for line in commands(text) if kind == "console" else ():
            if untried:
                parse(line)
            else:
                code, said = typed(*shlex.split(line)[1:])
                assert code == 0, f"{line}: {said}"

    assert bool(found) != (page.stem in WITHOUT_COMMANDS)


README = ROOT / "README.md"


def test_every_command_of_the_readme_is_one():
    lines = [
        line for kind, _, text in blocks(README) if kind == "console" for line in commands(text)
    ]
    for line in lines:
        parse(line)

    assert len(lines) > 10
