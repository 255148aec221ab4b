"""The drills: each makes one thing happen, requires what must hold, and says what it saw."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.drills.course import alive, course, ended, last, require
from tests.drills.process_drills import (
    five_hundred_launches,
    sigkill_of_the_fork_server,
    sigterm_to_a_loader_worker,
    sigterm_to_a_pass,
    the_driver_of_a_cluster_is_killed,
)

SHARED = "/dev/shm"  # noqa: S108 - the system's own name
TRIES = "to_try = [1e-3, 1e-2]"
FOLDERS = ("records", "details", ".staged")


def two_runs_tune_and_export_at_once():
    """Two runs, a tuning and exports work in one folder at the same time."""
    with course() as at:
        runs = [at.start_run(), at.start_run()]
        tuned = at.folder / "tuned.toml"
        text = at.suite.read_text()
        for method in ("full", "head"):
            text = text.replace(f'method = "{method}"', f'method = "{method}"\n{TRIES}')
        tuned.write_text(text)
        at.until("records/*.json")
        tuning = at.start("tune", tuned, "--results", at.results)
        exports = [at.command("export", at.results, "--csv", at.folder / "x.csv") for _ in range(4)]
        endings = [ended(run) for run in (*runs, tuning)]
        codes = [code for code, _ in endings]
        require({code for code, _ in exports} == {0}, f"exports: {[last(s) for _, s in exports]}")
        require(codes == [0, 0, 0], f"exit codes {codes}: {[last(s) for _, s in endings]}")
        code, said = at.command("results", "check", at.results)
        require(code == 0, last(said))
        require(not at.left_over(), f"left over: {at.left_over()}")
        return f"exit codes {codes}, exports 0; {last(said)}"


def _in_the_middle(happens, mends):
    """Start a run, let something happen when its first record is there, mend it, run again."""
    with course() as at:
        return _disturbed(at, happens, mends)


def _disturbed(at, happens, mends):
    run = at.start_run()
    at.until("records/*.json", run)
    happens(at)
    code, said = ended(run)
    mends(at)
    kept = len(list((at.results / "records").glob("*.json")))
    at.finished()
    require(not at.left_over(), f"left over: {at.left_over()}")
    return f"exit code {code}: {last(said)}; {kept} records kept; then the rest"


def the_results_folder_is_deleted():
    """Somebody removes the results folder while a run writes into it."""
    return _in_the_middle(lambda at: shutil.rmtree(at.results), lambda _: None)


def the_results_folder_is_replaced():
    """Somebody moves the results folder away, and makes another with a link inside."""

    def replace(at):
        at.results.rename(at.folder / "away")
        (at.folder / "outside").mkdir()
        at.results.mkdir()
        for name in FOLDERS:
            (at.results / name).symlink_to(at.folder / "outside")

    def mend(at):
        require(not list((at.folder / "outside").iterdir()), "written through a link")
        shutil.rmtree(at.results)
        (at.folder / "away").rename(at.results)

    return _in_the_middle(replace, mend)


def _mounted(at, how):
    subprocess.run(["mount", "-t", "tmpfs", "-o", how, "drill", at.results], check=True)


def _on_a_mount(how, happens, mends):
    """Let something happen to the file system that results are on; needs the right to mount."""
    with course() as at:
        at.results.mkdir()
        _mounted(at, how)
        try:
            return _disturbed(at, happens, mends)
        finally:
            subprocess.run(["umount", "-l", at.results], check=True)


def the_results_folder_becomes_read_only():
    """The file system becomes read-only in the middle, as after an error of the disk."""
    return _on_a_mount(
        "size=64m",
        lambda at: subprocess.run(["mount", "-o", "remount,ro", at.results], check=True),
        lambda at: subprocess.run(["mount", "-o", "remount,rw", at.results], check=True),
    )


def the_space_runs_out():
    """Somebody else fills the disk in the middle."""

    def fill(at):
        with suppress(OSError), (at.results / "other").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    return _on_a_mount("size=8m", fill, lambda at: (at.results / "other").unlink())


def the_inodes_run_out():
    """Somebody else makes so many files that no more can be made."""

    def fill(at):
        (at.results / "other").mkdir()
        with suppress(OSError):
            for number in range(10_000):
                (at.results / "other" / str(number)).touch()

    return _on_a_mount("nr_inodes=200", fill, lambda at: shutil.rmtree(at.results / "other"))


def shared_memory_is_full():
    """Shared memory has no room; loader workers need some, what has no workers does not."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "drill", SHARED], check=True)
    try:
        Path(SHARED, "full").write_bytes(bytes(4096))
        with course() as at:
            code, said = at.run()
            require(code == 0, f"exit code {code}: {last(said)}")
            with_workers, of_workers = at.run(
                "--again", BSRBENCH_WORKERS="2", results=at.folder / "with-workers"
            )
            require(not at.left_over(), f"left over: {at.left_over()}")
            return f"exit code 0; with loader workers {with_workers}: {last(of_workers)}"
    finally:
        subprocess.run(["umount", "-l", SHARED], check=True)


def paths_of_four_thousand_characters():
    """Results, suites and temporary files whose paths are as long as the system allows."""
    with course() as at:
        deep = at.folder
        os.chdir(at.folder)
        while len(str(deep)) < 3950:
            deep = deep / ("d" * min(200, 3999 - len(str(deep))))
        seen = []
        code, said = at.run(results=deep)
        seen.append(f"results {code} ({last(said)[-120:]})")
        code, said = at.run(results=Path("/") / "/".join(["e" * 200] * 30))
        require(code == 2, f"longer than the system allows: exit code {code}: {last(said)}")
        seen.append(f"longer {code} ({last(said)[-60:]})")
        code, said = at.run(TMPDIR=str(deep))
        seen.append(f"temporary {code} ({last(said)[-120:]})")
        for command in ("report", "status", "export", "claims"):
            code, said = at.command(command, deep / "x", *(["--csv", "y"] * (command == "export")))
            require(code == 2, f"{command}: exit code {code}")
        require(not alive(f"TMPDIR={at.temporary}"), "something is alive")
        return "; ".join(seen)


NEED_MOUNTS = (
    the_results_folder_becomes_read_only,
    the_space_runs_out,
    the_inodes_run_out,
    shared_memory_is_full,
)
ALL = (
    two_runs_tune_and_export_at_once,
    the_results_folder_is_deleted,
    the_results_folder_is_replaced,
    *NEED_MOUNTS,
    paths_of_four_thousand_characters,
    sigterm_to_a_pass,
    sigterm_to_a_loader_worker,
    sigkill_of_the_fork_server,
    the_driver_of_a_cluster_is_killed,
    five_hundred_launches,
)
