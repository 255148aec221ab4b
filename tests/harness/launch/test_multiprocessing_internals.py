"""Each unpublished part of Python's multiprocessing is what this project relies on."""

import json
import subprocess
import sys

import pytest

from bsrbench.harness.launch.processes import multiprocessing_internals

# Each runs in a process of its own, whose fork server ends with it.
START = """
import multiprocessing.forkserver, json, os, sys
from bsrbench.harness.launch.processes.multiprocessing_internals import *
import bsrbench.harness.launch.processes.multiprocessing_internals as internals
"""
NUMBER = """
before = internals.forkserver_pid()
multiprocessing.forkserver.ensure_running()
number = internals.forkserver_pid()
with open(f"/proc/{number}/stat") as file:
    parent = int(file.read().rpartition(")")[2].split()[1])
print(json.dumps([before, parent == os.getpid()]))
"""
SOCKETS = """
internals.make_sockets_in(sys.argv[1])
multiprocessing.forkserver.ensure_running()
print(json.dumps([os.path.exists(os.path.join(sys.argv[1], n)) for n in os.listdir(sys.argv[1])]))
"""
# The server ends when nobody holds its pipe any more; a child that kept it would keep the server.
CHILD = """
import time
def waits(closes, ready):
    if closes:
        internals.close_inherited_pipes()
    ready.set()
    time.sleep(60)
"""
PIPES = """
import multiprocessing, select, sys
sys.path.insert(0, sys.argv[1])
from waiting import waits
if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    ready = context.Event()
    child = context.Process(target=waits, args=(sys.argv[2] == "closes", ready))
    child.start()
    ready.wait()
    handle = os.pidfd_open(internals.forkserver_pid())
    server = multiprocessing.forkserver._forkserver
    os.close(server._forkserver_alive_fd)
    ended, _, _ = select.select([handle], [], [], 3.0)
    print(json.dumps(bool(ended)), flush=True)
    os.kill(child.pid, 9)
    os._exit(0)
"""


def _answer(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", START + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def test_the_server_has_no_number_before_it_starts_and_then_that_of_a_child():
    assert [None, True] == _answer(NUMBER)


def test_the_servers_socket_is_made_in_the_folder(tmp_path):
    assert [True] == _answer(SOCKETS, tmp_path)


@pytest.mark.parametrize(("what", "ends"), [("closes", True), ("keeps", False)])
def test_a_server_ends_without_its_starter_only_if_children_closed_its_pipe(tmp_path, what, ends):
    (tmp_path / "waiting.py").write_text(START + CHILD)

    assert ends == _answer(PIPES, tmp_path, what)


def test_nothing_but_the_standard_library_is_loaded():
    code = f"import sys, {multiprocessing_internals.__name__}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "numpy", "timm", "torchvision"}
