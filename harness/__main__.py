"""``python -m harness`` is ``bsrbench``."""

from harness.cli import main

if __name__ == "__main__":
    main()
