"""The interface of a resident: a clock pass that sleeps until it is its turn."""

from typing import Protocol

from bsrbench.harness.trial.pass_result import PassResult, VisitResult


class ServerLost(Exception):  # noqa: N818 - the generation is timed again
    """The fork server was killed, and all residents with it."""


class Resident(Protocol):
    """A clock pass that has built its trial, and makes a visit when it is asked to."""

    @property
    def cores(self) -> tuple[int, ...]:
        """The cores to which it is bound; empty if it is not."""

    @property
    def ready(self) -> VisitResult:
        """How the building and warming up ended."""

    def visit(self, kind: str) -> VisitResult:
        """Make a visit and return how it ended; nothing else is timed meanwhile.

        Raises:
            ServerLost: the fork server was killed.
        """

    def end(self) -> PassResult:
        """End the pass, and return what it measured, or how it failed."""

    def close(self) -> None:
        """End the pass at once, if it has not ended."""
