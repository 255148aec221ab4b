"""However a pass or a run ends, nothing of it stays, nobody waits for ever, the next goes on."""

import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from bsrbench import methods
from bsrbench.harness.launch import local_launcher
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.launch.processes import fork_server, pass_death, sweeper
from bsrbench.harness.launch.processes.pass_limits import Limits
from bsrbench.harness.records.trial_record import Status

ROOT = Path(__file__).resolve().parents[3]
MADE_BY_TORCH = "_remote_module_non_scriptable.py"
ACTING = '''
import os, signal, subprocess, sys, time
from dataclasses import dataclass
import torch
from bsrbench.harness.method import Kind, Method

@dataclass(frozen=True)
class Acting(Method):
    """Does what it is told to, and says what it is told to."""
    act: str = ""
    says: str = "{}"
    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        exec(self.act)
        return model

    def environment(self, kind):
        return eval(self.says)
'''
ORPHAN = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open({place!r}, "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists({place!r}) or not open({place!r}).read():
    time.sleep(0.01)
"""
ONCE = """
if not os.path.exists({place!r}):
    open({place!r}, "w").close()
    os.kill(os.getppid(), signal.{signal})
    time.sleep({seconds})
"""

FAKES = """
for handle in range(3, 64):
    try:
        os.write(handle, b'{"status":"completed"}\\n')
    except OSError:
        pass
"""


@pytest.fixture
def acting(tmp_path, make_spec):
    """Return a maker of specs of a method that does or says something."""
    path = tmp_path / "acting.py"
    path.write_text(ACTING)

    def make(act="", says="{}", **more):
        return make_spec(f"{path}:Acting", options={"act": act, "says": says}, **more)

    return make


def becomes(holds, seconds=60):
    """Wait until something holds, and return whether it did; a busy machine takes its time."""
    ends = time.monotonic() + seconds
    while not holds() and time.monotonic() < ends:
        time.sleep(0.05)
    return holds()


def alive_with(text):
    """Return the living processes that have a text in the environment they were started with."""
    found = []
    for pid, (_, state) in sweeper.table().items():
        try:
            has = text.encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if has and state not in sweeper.DEAD:
            found.append(pid)
    return found


def is_dead(pid):
    return sweeper.state(pid) in ("", *sweeper.DEAD)


def test_what_moved_to_a_session_of_its_own_ends_with_its_pass(acting, launcher, tmp_path):
    place = tmp_path / "pid"
    result = launcher.perform("flops", acting(ORPHAN.format(place=str(place))))

    assert result.status == Status.COMPLETED
    assert becomes(lambda: is_dead(int(place.read_text())))


def test_a_pass_that_closes_its_pipe_and_lives_on_is_ended(acting, launcher, monkeypatch):
    monkeypatch.setattr(pass_death, "CLOSING_SECONDS", 1.0)
    result = launcher.perform("flops", acting("os.closerange(3, 4096); time.sleep(10**6)"))

    assert result.status == Status.CRASHED
    assert "the process closed the pipe for its answer" in result.reason


def test_a_stopped_pass_is_ended_in_its_time(acting):
    hanging = LocalLauncher(methods.load, Limits(timeout_seconds=3))
    result = hanging.perform("flops", acting("os.kill(os.getpid(), signal.SIGSTOP)"))

    assert (result.status, result.reason) == (Status.TIMEOUT, "not finished after 3 s")


@pytest.mark.parametrize(("name", "seconds"), [("SIGKILL", 600), ("SIGSTOP", 0)])
def test_a_pass_whose_server_was_killed_or_stopped_is_run_once_more(
    name, seconds, acting, launcher, tmp_path, monkeypatch
):
    monkeypatch.setattr(fork_server, "STOPPED_LOOKS", 4)
    act = ONCE.format(place=str(tmp_path / "done"), signal=name, seconds=seconds)
    ends = "" if name == "SIGKILL" else "    os._exit(1)\n"
    result = launcher.perform("flops", acting(act + ends))

    assert (result.status, result.reason) == (Status.COMPLETED, "")


class _Killed:
    exitcode = fork_server.UNSAID


def test_a_server_whose_pipes_close_before_it_has_ended_is_lost(monkeypatch):
    """A killed process closes its pipes first, and can be waited for a moment later."""
    child, looks = _Killed(), iter([False, False, True])
    serving = types.SimpleNamespace(_forked={child: os.getpid()}, _pid=os.getpid)
    monkeypatch.setattr(fork_server, "_has_ended", lambda _: next(looks))

    assert fork_server.Server.lost(serving, child)


def test_a_server_that_dies_each_time_is_the_passes_outcome(acting, launcher, monkeypatch):
    """Nothing needs to be forked for that: every process is said to have lost its server."""
    monkeypatch.setattr(fork_server.Server, "lost", lambda *_: True)
    result = launcher.perform("flops", acting("os._exit(0)"))

    assert result.status == Status.CRASHED
    assert "was killed twice in a row" in result.reason


def test_a_prediction_that_hangs_has_a_limit_though_none_was_asked_for(
    acting, launcher, monkeypatch
):
    monkeypatch.setattr(local_launcher, "BEFOREHAND_SECONDS", 2.0)

    assert launcher.perform("estimate", acting("time.sleep(600)")).status == Status.TIMEOUT


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("raise SystemExit(3)", "SystemExit: 3 (at <string>:1)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: "),
        ("raise RuntimeError('m' * 30_000_000)", "(29,996,000 more)"),
        (r"raise RuntimeError('\x1b]0;x\x07 \x00 \ud800')", r"\x1b]0;x\x07 \x00 \ud800"),
        (FAKES, "the method wrote into the pipe for the answer of its process"),
        ("os.fork()", ""),
    ],
)
def test_what_a_method_raises_or_does_becomes_an_outcome(act, said, acting, launcher):
    result = launcher.perform("flops", acting(act))

    assert result.status == (Status.CRASHED if said else Status.COMPLETED), result.reason
    assert said in result.reason
    assert len(result.reason) < 5000


STRANGE = r"""{
    'nan': float('nan'), 'half': '\ud800', 'many': 'a' * 50_000_000, 'large': 10**5000,
    'deep': __import__('functools').reduce(lambda x, _: [x], range(300), []), 1: (True, None),
}"""


def test_what_a_method_says_is_made_into_what_a_record_can_hold(acting, launcher):
    said = launcher.perform("flops", acting(says=STRANGE)).method

    assert (said["nan"], said["half"], said["1"]) == ("nan", "\\ud800", [True, None])
    assert said["many"].endswith("(49,996,000 more)")
    assert said["large"] == "a whole number of 16610 bits"
    assert len(json.dumps(said)) < 10_000


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("['x']", "what environment() returns is a list, expected a dict"),
        (
            "{'x': torch.ones(1)}",
            "what environment() returns contains a value that JSON cannot represent (Tensor)",
        ),
    ],
)
def test_what_no_record_can_hold_is_an_outcome(says, why, acting, launcher):
    result = launcher.perform("flops", acting(says=says))

    assert result.status == Status.CRASHED
    assert why in result.reason


def test_after_methods_that_misbehave_the_next_reads_the_same(
    acting, launcher, make_spec, tmp_path
):
    before = launcher.perform("memory", make_spec()).reading
    for act in (
        "os.chdir('/'); os.umask(0o777); torch.set_default_dtype(torch.float64)",
        "torch.nn.functional.linear = lambda *_, **__: 1 / 0; time.monotonic = lambda: 0",
        "os.environ['BSRBENCH_KERNELS'] = 'none'; os.environ['TMPDIR'] = '/nowhere'",
        ORPHAN.format(place=str(tmp_path / "pid")),
        "os.write(1, b'x' * (1 << 22)); os._exit(3)",
    ):
        launcher.perform("memory", acting(act))

    assert launcher.perform("memory", make_spec()).reading == before


RUN = """
import sys
from bsrbench import methods
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.spec.trial_spec import TrialSpec
LocalLauncher(methods.load).perform("training", TrialSpec.model_validate_json(sys.argv[1]))
"""
HANGS = """
def hang(*_, **__):
    open({place!r}, "w").close()
    time.sleep(600)
for kind in (torch.optim.SGD, torch.optim.AdamW):
    kind.step = hang  # what prepares images runs by then
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells whose a process is")
def ours_in(temporary):
    """Return what is in a folder but for the one that torch 2.9 makes for torch.distributed."""
    of_torch = {path.parent for path in temporary.glob(f"*/{MADE_BY_TORCH}")}
    return [path for path in temporary.iterdir() if path not in of_torch]


def test_of_a_killed_run_nothing_stays(acting, short_training, tmp_path, tmp_path_factory):
    """With processes that prepare images, and one that left: no process, no folder."""
    temporary = tmp_path_factory.mktemp("t")  # a socket's path must be short
    told = {"TMPDIR": str(temporary), "BSRBENCH_WORKERS": "2", "OF_TEST": str(tmp_path)}
    told["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "kernels")
    orphan, hangs = tmp_path / "pid", tmp_path / "hangs"
    act = ORPHAN.format(place=str(orphan)) + HANGS.format(place=str(hangs))
    text = acting(act, training=short_training).model_dump_json()
    with subprocess.Popen(
        [sys.executable, "-c", RUN, text], cwd=ROOT, env=os.environ | told
    ) as run:
        assert becomes(hangs.exists, seconds=600)
        alive = alive_with(str(tmp_path))
        run.kill()

    nothing_stays = becomes(lambda: not alive_with(str(tmp_path)) and not ours_in(temporary))
    for pid in alive_with(str(tmp_path)):
        sweeper.kill(pid)

    assert len(alive) >= 7  # run, sweeper, server, pass, orphan, two that prepare images
    assert nothing_stays
