"""Prepare the fork server; it imports this module before all others.

Nothing changes in a process without the mark of a run, for example in a test.
"""

import os
import signal
import warnings

from bsrbench.harness.launch.processes.reaper import adopt_orphans
from bsrbench.harness.launch.processes.sweeper import MARK

if MARK in os.environ:
    # Ctrl-C in a terminal goes to every process there; the main process decides what to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    adopt_orphans()
    # The server adopts the orphans of passes, and warns about them because it did not start them.
    warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")
