"""What types a command."""

import pytest
from click.testing import CliRunner

from harness.cli import main


@pytest.fixture
def typed():
    """Return what types a command and gives back its exit code and all it printed."""

    def run(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    return run
