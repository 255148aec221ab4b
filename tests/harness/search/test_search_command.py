"""The search command: a small real search, and bad input."""

import json

import pytest

from bsrbench.harness.spec.suite_file import read

SUITE = """
seeds = [0]
[workload]
model = "test_vit"
weights = "random"
data = "digits"
image_size = 32
batch = 4
optimizer = "adamw"
threads = 1
[training]
steps = 4
learning_rate = 1e-3
[profile]
rounds = 1
steps = 1
warmup_steps = 0
[[methods]]
method = "bsr"
to_try = [1e-3]
"""
FEW = """
from dataclasses import dataclass

from bsrbench.methods.bsr import BlockSelectiveReprogramming


@dataclass(frozen=True)
class Few(BlockSelectiveReprogramming):
    trained_blocks: tuple[int, ...] = (1, 3, 5)
    drop_at: tuple[int, ...] = (1, 3)

    @classmethod
    def variants(cls, depth):
        return {"trained_blocks": (5,)}, {"trained_blocks": (5,), "drop_at": ()}
"""


def test_a_small_search_leaves_page_figure_and_suite(typed, tmp_path):
    """Of a method in a file of one's own, with two settings beside its default."""
    suite, file = tmp_path / "small.toml", tmp_path / "few.py"
    suite.write_text(SUITE, encoding="utf-8")
    file.write_text(FEW, encoding="utf-8")
    asked = ["search", "--like", suite, "--memory", "1GiB", "--time", "1s", "--with", ""]
    asked += ["--method", f"{file}:Few", "--results", tmp_path / "out"]

    code, said = typed(*asked)
    again, _ = typed(*asked)

    assert (code, again) == (0, 0), said
    page = (tmp_path / "out" / "search.md").read_text(encoding="utf-8")
    assert "the test split was not read" in page
    assert (tmp_path / "out" / "front.png").stat().st_size > 10_000
    assert read(tmp_path / "out" / "found.toml").trials()
    records = [json.loads(p.read_bytes()) for p in (tmp_path / "out" / "records").iterdir()]
    trained = [r for r in records if r["spec"]["training"]]
    assert trained
    assert all(r["measurements"]["accuracy_top1"] is None for r in trained)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (("--time", "soon"), "expected a time like 90s, 30min or 2h"),
        (("--memory", "much"), "expected a size like 512MiB"),
        (("--method", "bsr+int8"), "expected one method"),
        (("--method", "head"), "has no variants"),
        (("--with", "int9"), "did you mean 'int8'"),
        (("--like", "memory"), "has no [training] table"),
        (("--model", "test_vit_"), "no timm model"),
    ],
)
def test_bad_input_is_said_in_a_line(typed, tmp_path, wrong, expected):
    suite = tmp_path / "small.toml"
    suite.write_text(SUITE, encoding="utf-8")
    usual = {"--like": suite, "--memory": "1GiB", "--with": "", "--results": tmp_path / "out"}
    usual |= {wrong[0]: wrong[1]}

    code, said = typed("search", *(part for pair in usual.items() for part in pair))

    assert code == 2
    assert expected in said
    assert not (tmp_path / "out" / "records").exists() or not list(
        (tmp_path / "out" / "records").iterdir()
    )
