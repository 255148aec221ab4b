"""The environment in which the threads of OpenMP sleep while they wait, instead of spinning.

Spinning doubles the CPU time of a step. OpenMP's library reads the variables when it is loaded, so
they must be set before torch is imported.
"""

import os
from collections.abc import Mapping
from types import MappingProxyType

POLICY = "OMP_WAIT_POLICY"
# The other two would override the policy: in GNU's library, and in those of LLVM and Intel.
OVERRIDING = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SLEEPING_THREADS: Mapping[str, str] = MappingProxyType(
    {POLICY: "PASSIVE", **dict.fromkeys(OVERRIDING, "0")}
)


def threads_sleep() -> bool:
    """Return whether the environment of this process lets its threads sleep while they wait."""
    passive = os.environ.get(POLICY, "").upper() == SLEEPING_THREADS[POLICY]
    return passive and all(os.environ.get(name, "0") == "0" for name in OVERRIDING)
