"""Every command and every line of Python in the documentation works.

A ``console`` block with a title needs what its title says (a GPU, data, minutes): its commands
are only parsed. All others run, the blocks of a page in one folder, in order. A ``toml`` block is a
suite.
"""

import json
import math
import re
import shlex
from csv import DictReader
from pathlib import Path
from statistics import median

import click
import pytest
import torch

from bsrbench import methods
from bsrbench.harness.cli import main
from bsrbench.harness.devices import Device
from bsrbench.harness.records.record_key import read_key
from bsrbench.harness.spec import suite_file

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITHOUT_COMMANDS = {
    "alast",
    "closed-form",
    "claims",
    "index",
    "report",
    "memory",
    "convention",
    "verdict",
    "faults",
    "measuring",
    "layout",
    "decisions",
}


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
        if kind == "toml":
            (tmp_path / "block.toml").write_text(text)
            assert suite_file.read(tmp_path / "block.toml").trials()
        for line in commands(text) if kind == "console" else ():
            if untried:
                parse(line)
            else:
                code, said = typed(*shlex.split(line)[1:])
                assert code == 0, f"{line}: {said}"

    assert bool(found) != (page.stem in WITHOUT_COMMANDS)


README = ROOT / "README.md"
RUNS = ROOT / "results" / "README.md"


def test_the_page_of_runs_names_those_of_older_sources():
    named = re.search(
        r"^The source of some methods has changed since these runs: (.*?)\.$",
        RUNS.read_text(),
        re.MULTILINE,
    )
    older = set()
    for path in (ROOT / "results").glob("*/records/*.json"):
        made_by = read_key(path.stem).source
        method = json.loads(path.read_text())["spec"]["method"]
        older |= {path.parents[1].name} if methods.fingerprint(method) != made_by else set()

    assert sorted(older) == re.findall("`(.*?)`", named[1])


def test_the_page_of_runs_has_every_folder_of_results():
    folders = {path.name for path in (ROOT / "results").iterdir() if path.is_dir()} - {"local"}
    named = re.findall(r"^\| \[`([\w-]+)`\]\(\1/", RUNS.read_text(), re.MULTILINE)

    assert len(named) == len(folders)
    assert set(named) == folders


def test_the_page_of_decisions_says_how_fast_a_process_starts_by_the_records():
    paths = (ROOT / "results").glob("*/records/*.json")
    found = [json.loads(p.read_text())["environment"].get("pass_start_seconds") for p in paths]
    seconds = [value for starts in found if starts for value in starts]

    assert len(seconds) > 1000
    page = (ROOT / "docs" / "decisions.md").read_text()
    assert f"starts in about {median(seconds):.2f} s (" in page


def test_every_verb_of_a_device_is_described():
    page = (ROOT / "docs" / "how-to" / "device.md").read_text()
    verbs = {name for name in vars(Device) if not name.startswith("_")}

    assert verbs == set(re.findall(r"`(\w+)\(\)`", page.split("What a device does not")[0]))


EXAMPLES = {"test_mine.py"}  # files that a reader writes
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
MADE = "reference/"  # pages that docs/reference.py makes


@pytest.mark.parametrize(
    "page",
    [README, RUNS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_link_leads_to_a_file(page):
    links = [link for link in LINK.findall(page.read_text()) if MADE not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_test_that_a_page_names_exists(page):
    named = re.findall(r"\b((?:test|bench)_\w+\.py)`", page.read_text())
    there = {path.name for path in (ROOT / "tests").rglob("*.py")} | EXAMPLES

    assert set(named) <= there


def test_every_page_can_be_found_from_the_sidebar():
    named = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    there = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}

    assert {page for page in named if not page.startswith(MADE)} == there


def test_the_readmes_python_runs():
    """One block goes on where the one before ended, with the step that people bring."""
    names = {}
    for kind, _, text in blocks(README):
        if kind == "python":
            exec(compile(text, str(README), "exec"), names)  # noqa: S102 - our own README
            names |= their_loop(names["model"])

    assert str(names["profile"].__module__) == "bsrbench"


def their_loop(model):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

    def step():
        optimizer.zero_grad()
        model(torch.zeros(1, 3, 224, 224)).sum().backward()
        optimizer.step()

    return {"optimizer": optimizer, "step": step}


def test_every_command_of_the_readme_is_one():
    lines = [
        line for kind, _, text in blocks(README) if kind == "console" for line in commands(text)
    ]
    for line in lines:
        parse(line)

    assert len(lines) > 10


def rows_of(text):
    """Return the cells of every table row."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("| ---")
    ]


def test_the_readmes_table_is_the_quick_reference_run():
    with (ROOT / "results" / "quick" / "comparison.csv").open() as file:
        found = {
            row["row"]: {k: float(v or "nan") for k, v in numbers(row)} for row in DictReader(file)
        }
    _, *rows = rows_of(README.read_text().split("<!-- quick table -->")[1].split("\n\n")[0])
    full = found["full"]

    assert [row[0] for row in rows] == list(found)
    for name, *cells in rows:
        of, share = found[name], found[name]["peak_counted_bytes"] / full["peak_counted_bytes"]
        accuracy = of["accuracy_top1"]
        assert cells[:3] == [
            "as full" if math.isnan(accuracy) else f"{accuracy:.3f}",
            f"{of['peak_counted_bytes'] / 2**20:.1f}",
            f"{share:.2f}×",
        ]
        assert cells[3:5] == [
            f"{of['step_flop'] / 1e9:.2f}",
            f"{of['step_flop'] / full['step_flop']:.2f}×",
        ]
        assert cells[5].strip("~") == f"{of['step_seconds'] * 1e3:.0f}"
        assert cells[6:8] == [ratio_of_times(of, time) for time in TIMES]
        assert cells[8] == f"{of['trained_parameters'] / 1e6:.3f}"


TIMES = ("step_seconds", "step_cpu_seconds")


def ratio_of_times(row, metric):
    ratio, low, high = (row[f"{metric}_over_full{end}"] for end in ("", "_low", "_high"))
    return f"{ratio:.2f}×" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")


def numbers(row):
    wanted = ("accuracy_top1", "peak_counted_bytes", "step_flop", "step_seconds")
    wanted = (*wanted, "trained_parameters")
    ratios = [f"{time}_over_full{end}" for time in TIMES for end in ("", "_low", "_high")]
    return [(name, row[name]) for name in (*wanted, *ratios)]


def test_the_table_of_speeds_is_the_committed_one():
    page = (ROOT / "docs" / "explanation" / "speed.md").read_text()
    measured, rest = page.split("## Methods of BSR's niche")
    niche, operators = rest.split("## Where the time goes")
    folder = ROOT / "results" / "microbench"

    assert rows_of(measured) == rows_of((folder / "report.md").read_text())
    assert rows_of(niche) == rows_of((folder / "niche.md").read_text())
    assert rows_of(operators) == rows_of((folder / "operators.md").read_text())


def test_the_page_on_memory_says_how_far_the_columns_are_apart():
    """Counted plus workspace over allocated, of all records that have the three."""
    names = ("peak_counted_bytes", "workspace_bytes", "peak_allocated_bytes")
    found = []
    for path in (ROOT / "results").glob("*/records/*.json"):
        numbers = [json.loads(path.read_text())["measurements"].get(name) for name in names]
        if None not in numbers:
            found.append((numbers[0] + numbers[1]) / numbers[2] - 1)
    far = [share for share in found if abs(share) > 0.01]
    page = (ROOT / "docs" / "explanation" / "memory.md").read_text()

    assert min(far) > 0
    assert f"In {len(far)} of the {len(found)} records" in page
    assert f"by up to {100 * max(far):.1f} %" in page


def test_the_worked_example_on_memory_is_of_the_records_it_names():
    """A row is a metric, a column a record that the page names; MiB with one decimal."""
    page = (ROOT / "docs" / "explanation" / "memory.md").read_text()
    folder = ROOT / "results" / "memory" / "records"
    names = dict(re.findall(r"^- (\w+): `(.*?\.json)`$", page, re.MULTILINE))
    columns = [json.loads((folder / name).read_text())["measurements"] for name in names.values()]
    table = page.split("| measurement |")[1].split("\n\n")[0]
    head, *rows = rows_of("| measurement |" + table)

    assert head == ["measurement", *names]
    assert len(rows) > 10
    for metric, *cells in [[cell.strip("*`") for cell in row] for row in rows]:
        values = [column.get(metric) for column in columns]
        assert cells == ["–" if v is None else f"{v / 2**20:.1f}" for v in values], metric
    sums = [sum(v for k, v in c.items() if k.endswith("_at_peak_bytes")) for c in columns]
    assert sums == [column["peak_counted_bytes"] for column in columns]


def test_the_table_of_methods_has_every_shipped_method():
    page = (ROOT / "docs" / "explanation" / "methods-overview.md").read_text()
    _, *rows = rows_of(page.split("\n## ")[0])
    named = {row[0].strip("`"): set(row[2].split(", ")) for row in rows}

    assert named == {name: set(methods.find(name).kinds) for name in methods.names()}
    assert f"It ships {len(named)} methods" in README.read_text()
