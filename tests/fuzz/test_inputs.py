"""Whatever is put in, each input ends in a result or in words: some of each kind, and the watch."""

import os
import sys
import time
from pathlib import Path

import pytest

from bsrbench.harness.errors import BadInput
from tests.fuzz.__main__ import Pool, Work, again, main, perform, table, works
from tests.fuzz.kinds import KINDS, Kind
from tests.fuzz.watch import Ending, Place, watch

FEW = 8  # samples of a kind
PARTS = 4  # of a kind's inputs, so that both processes of the tests have as much to do


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_input_ends_in_a_result_or_in_words(kind, part, tmp_path):
    place = Place(tmp_path / "tree")
    failed = []
    with place.entered():
        for seed in range(part, kind.in_tests, PARTS):
            content = kind.input(seed)
            ending = watch(lambda content=content: kind.use(content, place), place)
            if ending.verdict == "failed":
                failed.append(f"{again(kind, seed)}: {ending.why.strip().splitlines()[-1]}")

    assert not failed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_valid_is_accepted(kind, tmp_path):
    """Else nothing is tried beyond the first check."""
    place = Place(tmp_path / "tree")
    with place.entered():
        verdicts = [
            watch(lambda content=content: kind.use(content, place), place).verdict
            for content in kind.made()[:FEW]
        ]

    assert "accepted" in verdicts
    assert "failed" not in verdicts


def test_the_same_seed_gives_the_same_input():
    for kind in KINDS:
        assert kind.input(3) == kind.input(3)
    assert len({kind.input(seed) for kind in KINDS[:2] for seed in range(20)}) > 30


def refuse():
    raise BadInput("no")


def write_outside():
    Path("../../x").write_text("y")


def follow():
    Path("link").symlink_to("../x.json")
    Path("link").write_text("y")


@pytest.mark.parametrize(
    ("use", "verdict", "said"),
    [
        (lambda: None, "accepted", ""),
        (refuse, "refused", ""),
        (lambda: sys.exit(0), "accepted", ""),
        (lambda: sys.exit(2), "refused", ""),
        (lambda: sys.exit(3), "failed", "exit code 3"),
        (lambda: 1 / 0, "failed", "ZeroDivisionError"),
        (lambda: time.sleep(60), "failed", "did not end in time"),
        (lambda: [None for _ in iter(int, 1)], "failed", "did not end in time"),
        (lambda: len(bytearray(os.urandom(1)) * (200 << 20)), "failed", "MiB"),
        (write_outside, "failed", "wrote outside the target: "),
        (follow, "failed", "wrote outside the target: "),
        (lambda: Path("inside").write_text("y"), "accepted", ""),
        (lambda: (_ for _ in ()).throw(BadInput("")), "failed", "refused without a word"),
    ],
)
def test_the_watch_sees_what_is_wrong(use, verdict, said, tmp_path):
    place = Place(tmp_path / "tree")
    with place.entered():
        ending = watch(use, place, seconds=1, clock_seconds=2, most_mib=100)

    assert verdict == ending.verdict
    assert said in ending.why


def test_a_process_that_dies_is_an_input_that_failed(monkeypatch):
    def use(content, place):
        if content == b"2":
            os._exit(7)

    kind = Kind("dying", "x", list, None, use)
    monkeypatch.setattr(Kind, "input", lambda _, seed: str(seed).encode())
    monkeypatch.setitem(perform.__globals__["BY_NAME"], "dying", kind)
    endings = sorted(
        (seed, ending.verdict, ending.why)
        for _, seed, ending in Pool([Work("dying", range(4))], 2).endings()
    )

    assert [(n, "accepted", "") for n in (0, 1)] == endings[:2]
    assert endings[2:] == [(2, "failed", "died: 7"), (3, "accepted", "")]


def test_an_input_that_fails_is_kept_and_named_with_its_seed(tmp_path, monkeypatch, capsys):
    def use(content, place):
        assert content != b"5"

    kind = Kind("odd", "x", list, None, use)
    monkeypatch.setattr(Kind, "input", lambda _, seed: str(seed).encode())
    monkeypatch.setitem(main.__globals__, "KEPT", tmp_path / "kept")
    monkeypatch.setitem(main.__globals__["BY_NAME"], "odd", kind)
    codes = [main(["--kind", "odd", *more]) for more in (["--count", "9"], ["--seed", "5"])]
    said = capsys.readouterr().out

    assert codes == [1, 1]
    assert "FAILED odd 5: AssertionError" in said
    assert "tox -e fuzz -- --kind odd --seed 5" in said
    assert "| odd | 9 | 8 | 0 | 1 |" in said
    assert (tmp_path / "kept" / "odd-5.x").read_bytes() == b"5"


def test_all_inputs_are_shared_out_and_counted():
    shared = works(KINDS, 10_000, 5)
    counted = table({"a": [Ending("accepted", "", 0.5, 3), Ending("failed", "x", 1.25, 7)]})

    assert 10_000 <= sum(len(work.seeds) for work in shared) < 10_000 + len(KINDS)
    assert min(work.seeds.start for work in shared) == 5
    assert counted[-1] == "| all | 2 | 1 | 0 | 1 | 1.25 | 7 |"
