"""Makes the fork server what its passes need; the server loads it first of all.

Where the mark of a run is missing, in a test that imports every module say, nothing is changed.
"""

import os
import signal
import warnings

from bsrbench.harness.launch.processes.reaper import adopt_orphans
from bsrbench.harness.launch.processes.sweeper import MARK

if MARK in os.environ:
    # Ctrl-C in a terminal goes to every process there; the run decides what it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    adopt_orphans()
    # What a pass lost becomes the server's, which had not started it.
    warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")
