"""Plant every listed fault in a copy of the project and see that the test it names fails.

``python tests/mutants/run.py`` plants all of them, ``python tests/mutants/run.py WORD ...`` those
whose name, file or test holds one of the words. Ends with exit code 1 if a fault survives.
"""

import importlib
import os
import shutil
import signal
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTS = Path(__file__).with_name("faults")
NOT_COPIED = (".git", ".tox", ".*_cache", "__pycache__", "*.egg-info", "build", "local")
PRELOADED = ("torch", "torch._dynamo", "timm", "scipy.stats", "pandas", "matplotlib.pyplot")
PASSED, FAILED, BROKEN = 0, 1, 3  # pytest's exit codes; the last is that of its own errors
LONGEST_SECONDS = 3600  # with a fault, which may make a test wait for ever
CAUGHT = "caught"


@dataclass(frozen=True)
class Fault:
    """One edit that makes the project wrong.

    Attributes:
        name: what is wrong then.
        file: path from the project's root.
        old: text that stands exactly once in the file.
        new: what takes its place.
        test: node id of the test that must fail.
    """

    name: str
    file: str
    old: str
    new: str
    test: str

    def planted(self, text: str) -> str:
        """Return the file's text with the fault in it.

        Raises:
            ValueError: the old text does not stand in it exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.file} has the text to replace {count} times, expected once")
        return text.replace(self.old, self.new)


def read() -> list[Fault]:
    """Return all faults that are listed, in the order of the files."""
    return [
        Fault(**fault)
        for path in sorted(FAULTS.glob("*.toml"))
        for fault in tomllib.loads(path.read_text(encoding="utf-8"))["fault"]
    ]


def run_tests(tree: Path, tests: list[str], *more: str, seconds: int = 0) -> tuple[int | None, str]:
    """Run tests of a copy in a process of their own.

    Args:
        tree: the copy.
        tests: their node ids.
        more: options of pytest.
        seconds: after which they are ended; 0 waits for ever.

    Returns:
        pytest's exit code, ``None`` if it had to be ended, and what it printed.
    """
    options = [*more, "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider", "--benchmark-disable"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is loaded already
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
        child = os.fork()
        if child == 0:
            signal.alarm(seconds)
            _be_pytest(tree, printed.fileno(), [*options, *tests])
        _, status = os.waitpid(child, 0)
        with suppress(ProcessLookupError):  # what a test leaves behind must not disturb the next
            os.killpg(child, signal.SIGKILL)
        printed.seek(0)
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None, printed.read()


def _be_pytest(tree: Path, output: int, arguments: list[str]) -> NoReturn:
    """Do in this process what pytest does that is started in a copy and prints into a file."""
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(tree)
    sys.path[0] = str(tree)
    # Bytecode of one fault would be taken for that of the next: it is known by second and size.
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    code = BROKEN
    try:
        code = int(pytest.main(arguments))
    except Exception:  # noqa: BLE001 - a fault may break anything
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def plant(tree: Path, fault: Fault) -> tuple[str, str]:
    """Plant one fault in a copy, run its test, and put the file right again.

    Returns:
        What came of it, and what pytest says of the failure.
    """
    path = tree / fault.file
    right = path.read_text(encoding="utf-8")
    try:
        path.write_text(fault.planted(right), encoding="utf-8")
    except ValueError as error:
        return "NOT PLANTED", str(error)
    try:
        code, printed = run_tests(tree, [fault.test], "-x", seconds=LONGEST_SECONDS)
    finally:
        path.write_text(right, encoding="utf-8")
    lines = printed.splitlines()
    failures = [line for line in lines if line.startswith("FAILED ")]
    if code == PASSED:
        return "SURVIVED", lines[-1]
    if code != FAILED or not failures:
        return "TEST BROKEN", lines[-1] if lines else f"not done after {LONGEST_SECONDS} s"
    return CAUGHT, failures[0].partition(" - ")[2]


def results(tree: Path, faults: list[Fault]) -> Iterator[tuple[Fault, str, str]]:
    """Yield each fault with what came of it, after all tests have been run without any.

    Raises:
        ValueError: pytest did not run them.
    """
    for name in PRELOADED:  # seconds each; the project itself is loaded anew for every fault
        importlib.import_module(name)
    shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
    code, printed = run_tests(tree, sorted({fault.test for fault in faults}))
    if code not in {PASSED, FAILED}:
        raise ValueError(f"the tests cannot be run:\n{printed}")
    lines = [line.split(" ", 1) for line in printed.splitlines()]
    failing = {_function(rest[0]) for word, *rest in lines if word in {"FAILED", "ERROR"} and rest}
    for fault in faults:
        if _function(fault.test) in failing:
            yield fault, "FAILS ANYWAY", "without any fault"
        else:
            yield fault, *plant(tree, fault)


def _function(test: str) -> str:
    """Return a test's node id without its parameters and whatever follows."""
    return test.partition(" - ")[0].partition("[")[0]


def say(line: str) -> None:
    """Print a line at once: the whole takes minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(words: list[str]) -> int:
    """Plant the faults that were asked for, print the table, and return the exit code."""
    faults = [
        fault
        for fault in read()
        if not words or any(w in f"{fault.name} {fault.file} {fault.test}" for w in words)
    ]
    if not faults:
        say(f"error: no fault has any of {', '.join(words)} in its name, file or test")
        return 2
    say("| fault | file | test | result | pytest says |\n| --- | --- | --- | --- | --- |")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            for fault, result, said in results(Path(folder) / "tree", faults):
                missed += result != CAUGHT
                cells = (fault.name, fault.file, fault.test, result, said.replace("|", "\\|")[:100])
                say(f"| {' | '.join(cells)} |")
        except ValueError as error:
            say(f"error: {error}")
            return 1
    say(f"\n{len(faults) - missed} of {len(faults)} faults caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
