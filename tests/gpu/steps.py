"""The steps of the command: each is a process whose output is kept, and is not done twice."""

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("harness", "methods", "reports", "suites", "tests")
MARK = "mark." + "cuda"  # in two parts, so that this file does not have it
STEPS = "steps.json"
ENDING_SECONDS = 30  # for a step to store what it has measured, after it was told to end


@dataclass(frozen=True)
class Step:
    """A step.

    Attributes:
        name: its name; the output is kept in ``NAME.txt``.
        command: the arguments of this Python.
        resumes: it knows itself what is done already, so it always runs again.
        missing: why it cannot run here; empty if it can.
    """

    name: str
    command: tuple[str, ...]
    resumes: bool = False
    missing: str = ""


@dataclass(frozen=True)
class Ended:
    """How a step ended.

    Attributes:
        step: its name.
        code: its exit code; ``None`` if it could not run.
        seconds: how long it took.
        sources: hash of the sources with which it ran.
        why: why it could not run.
    """

    step: str
    code: int | None
    seconds: float
    sources: str
    why: str = ""

    def words(self) -> str:
        """Return the outcome in words."""
        if self.code is None:
            return f"not run: {self.why}"
        return "passed" if self.code == 0 else f"failed with exit code {self.code}"


def marked_tests(root: Path = ROOT) -> list[str]:
    """Return the test files with tests that need a GPU; others may need further packages."""
    files = sorted((root / "tests").rglob("test_*.py"))
    return [
        str(path.relative_to(root)) for path in files if MARK in path.read_text(encoding="utf-8")
    ]


def hash_of_sources() -> str:
    """Return a hash of everything that the steps run."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".toml", ".cpp"}:
                digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def do(steps: list[Step], out: Path, *, again: bool) -> list[Ended]:
    """Run the steps that have not passed yet, one after the other; return how each ended.

    A step that fails does not stop the others. After each step, ``steps.json`` has its outcome.
    """
    sources = hash_of_sources()
    ended = {} if again else _stored(out / STEPS)
    for step in steps:
        before = ended.get(step.name)
        passed = before is not None and (before.code, before.sources) == (0, sources)
        if passed and not step.resumes:
            click.echo(f"== {step.name}: has passed before ({out / step.name}.txt)")
            continue
        ended[step.name] = _run(step, out, sources)
        click.echo(f"== {step.name}: {ended[step.name].words()}")
        plain = [asdict(each) for each in ended.values()]
        _write(out / STEPS, json.dumps(plain, indent=1) + "\n")
    return [ended[step.name] for step in steps]


def _stored(path: Path) -> dict[str, Ended]:
    """Return how the steps ended in earlier calls; nothing if the file is damaged."""
    try:
        return {entry["step"]: Ended(**entry) for entry in json.loads(path.read_text())}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def _run(step: Step, out: Path, sources: str) -> Ended:
    """Run a step; show its output and keep it."""
    if step.missing:
        return Ended(step.name, None, 0.0, sources, step.missing)
    click.echo(f"== {step.name}: {' '.join(step.command)}")
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-u", *step.command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with (out / f"{step.name}.txt").open("w") as kept:
            for line in child.stdout or ():
                click.echo(line, nl=False)
                kept.write(line)
                kept.flush()
        code = child.wait()
    finally:
        _end(child)
        if child.stdout is not None:
            child.stdout.close()
    return Ended(step.name, code, round(time.monotonic() - began, 1), sources)


def _end(child: subprocess.Popen[str]) -> None:
    """End a step that still runs, because this process was told to end."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
