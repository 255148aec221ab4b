"""``python -m bsrbench`` is ``bsrbench``."""

import os
import signal

INTERRUPTED = 130


def start() -> None:
    """Run the program; Ctrl-C while it is being loaded ends it, without a traceback."""
    signal.signal(signal.SIGINT, lambda _, __: os._exit(INTERRUPTED))
    from bsrbench.harness.cli import main  # noqa: PLC0415 - see above

    main()


if __name__ == "__main__":
    start()
