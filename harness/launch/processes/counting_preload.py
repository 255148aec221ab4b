"""Load fvcore in the fork server, so that no pass that counts with it has to load it."""

import warnings

with warnings.catch_warnings():
    # As where the meter imports it: torch warns about functions of fvcore that are not used here.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
    import fvcore.nn  # noqa: F401 - loaded for the children
