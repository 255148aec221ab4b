"""The process of a Ray node that runs a unit, and a method that keeps it waiting."""

from pathlib import Path


def worker_of(node):
    """Return the process on a node that runs a unit; ``None`` where there is none."""
    raylet = node.all_processes["raylet"][0].process.pid
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet and (process / "cmdline").read_text().startswith("ray::run_unit"):
                return int(process.name)
        except OSError:  # it has ended meanwhile
            continue
    return None


GATED = """
import time
from dataclasses import dataclass
from pathlib import Path
from bsrbench.methods.full import FullFineTuning

@dataclass(frozen=True)
class Gated(FullFineTuning):
    '''Trains as soon as a file is there.'''

    def prepare(self, model):
        while not Path(GATE).exists():
            time.sleep(0.01)
        return model
"""
