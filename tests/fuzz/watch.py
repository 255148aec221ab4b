"""Watch what comes of one input: how it ends, how long it takes, what memory, what it writes."""

import hashlib
import os
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bsrbench.harness.errors import BadInput

# Of the processor: a second's work takes five where others want the processor, too. Who waits for
# something that never comes takes none, and is stopped by the clock.
SECONDS = 5.0
CLOCK_SECONDS = 30.0
MIB = 2**20
MOST_MIB = 1000
CODES = frozenset({0, 1, 2})  # of commands that end in words
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
HOME_VARIABLES = (
    *("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "BSRBENCH_CACHE", "BSRBENCH_DATA", "TMPDIR"),
)


class TooLong(BaseException):
    """Raised by the alarm, past all that catches Exception."""


@dataclass(frozen=True)
class Ending:
    """What came of an input.

    Attributes:
        verdict: ``accepted``, ``refused`` or ``failed``.
        why: it failed.
        seconds: of the processor that it took.
        mib: by which the process grew at most.
    """

    verdict: str
    why: str = ""
    seconds: float = 0.0
    mib: float = 0.0


class Place:
    """A tree in which everything happens: a target folder, a home, and files that must not change.

    Args:
        root: an empty folder.
    """

    def __init__(self, root):
        self.root = root
        self.target = root / "a" / "b" / "target"
        self.own = (self.target, root / "cache", root / "tmp")
        for folder in (*self.own, root / "home"):
            folder.mkdir(parents=True)
        for name in ("x.json", "a/x", "a/b/x.json", "home/.bashrc", "home/.profile"):
            (root / name).write_text(f"must stay: {name}\n")
        self._before = self._seen()

    def _seen(self):
        found = {}
        for folder, folders, names in os.walk(self.root):
            here = Path(folder)
            folders[:] = [name for name in folders if here / name not in self.own]
            found |= dict.fromkeys((str(here / name) for name in folders), "folder")
            for name in names:
                path = here / name
                found[str(path)] = (
                    os.readlink(path)  # noqa: PTH115 - str
                    if path.is_symlink()
                    else hashlib.sha256(path.read_bytes()).hexdigest()
                )
        return found

    def changed(self):
        """Return what was written outside the target, or is gone."""
        now = self._seen()
        return sorted(
            name for name in {*self._before, *now} if self._before.get(name) != now.get(name)
        )

    def cleared(self):
        """Return the target folder, empty; it stays, since this process is in it."""
        for path in self.target.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return self.target

    @contextmanager
    def entered(self):
        """Make the tree the world of this process: its home, its caches, where it is."""
        before = {name: os.environ.get(name) for name in HOME_VARIABLES}
        here, kept = Path.cwd(), tempfile.tempdir
        cache = self.root / "cache"
        folders = (self.root / "home", cache, cache, cache, self.target, self.root / "tmp")
        for name, folder in zip(HOME_VARIABLES, folders, strict=True):
            os.environ[name] = str(folder)
        tempfile.tempdir = None
        os.chdir(self.target)
        try:
            yield self
        finally:
            os.chdir(here)
            tempfile.tempdir = kept
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def watch(use, place, *, seconds=SECONDS, clock_seconds=CLOCK_SECONDS, most_mib=MOST_MIB):
    """Call ``use`` and return how it ended.

    Args:
        use: reads an input in the target folder; raises BadInput where it refuses it, or ends as
            a command does.
        place: that everything happens in.
        seconds: of the processor that it may take.
        clock_seconds: that may pass.
        most_mib: by which the process may grow.
    """
    before = _memory_before()
    verdict, why = "failed", "did not end in time"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _alarms(seconds, clock_seconds) as took:
            verdict, why = _verdict(use)
    mib = max(0.0, _kib("VmHWM") - before) / 1024
    if not why and took() > seconds:
        why = f"took {took():.1f} s"
    if not why and mib > most_mib:
        why = f"took {mib:.0f} MiB"
    if changed := place.changed():
        why = f"wrote outside the target: {', '.join(changed)}"
    return Ending("failed" if why else verdict, why, took(), mib)


def _verdict(use):
    try:
        use()
    except BadInput as error:
        return ("refused", "") if str(error).strip() else ("refused", "refused without a word")
    except SystemExit as error:
        said = "" if error.code in CODES else f"exit code {error.code!r}"
        return "refused" if error.code else "accepted", said
    except TooLong:
        return "failed", "did not end in time:\n" + traceback.format_exc()
    except BaseException:  # noqa: BLE001 - whatever it is, it is a failure
        return "failed", traceback.format_exc()
    return "accepted", ""


@contextmanager
def _alarms(seconds, clock_seconds):
    def ring(*_):
        raise TooLong

    alarms = {
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
        signal.SIGALRM: (signal.ITIMER_REAL, clock_seconds),
    }
    before = {number: signal.signal(number, ring) for number in alarms}
    began, ended = time.process_time(), []
    for timer, limit in alarms.values():
        signal.setitimer(timer, limit)
    try:
        yield lambda: (ended[0] if ended else time.process_time()) - began
    except TooLong:  # it rang between the last line watched and here
        pass
    finally:
        for number, (timer, _) in alarms.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
        ended.append(time.process_time())


def _memory_before():
    """Return the KiB that this process holds, and begin to look for its highest anew."""
    try:
        CLEAR.write_text("5")
    except OSError:  # not everywhere: then the highest is that of all inputs
        return _kib("VmHWM")
    return _kib("VmRSS")


def _kib(name):
    for line in STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0
