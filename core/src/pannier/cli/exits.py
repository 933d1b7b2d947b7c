"""Exit codes, and the one line that a person gets for an error that pannier knows."""

from enum import IntEnum

from pannier.errors import ConfigurationError, PannierError, StorageError


class ExitCode(IntEnum):
    """How the command ended. The numbers above 64 are those of BSD's sysexits.h, which supervisors know."""

    DONE = 0
    """What was asked for was done."""

    FAILED = 1
    """It could not be done; the reason is on stderr."""

    USAGE = 2
    """The command line is wrong."""

    UNAVAILABLE = 69
    """The storage did not answer, or was busy. The same command may succeed later."""

    OVERRUN = 75
    """A worker's handler was about to outlive its lease and could not be stopped (E6). Start the worker again."""

    CONFIGURATION = 78
    """The program is put together wrongly. Starting it again changes nothing."""


def code_of(error: PannierError) -> ExitCode:
    """Return the exit code for *error*."""
    if isinstance(error, ConfigurationError):
        return ExitCode.CONFIGURATION
    if isinstance(error, StorageError) and error.retryable:
        return ExitCode.UNAVAILABLE
    return ExitCode.FAILED


def line_of(error: PannierError) -> str:
    """Word *error* in one line."""
    return f"pannier: {' '.join(str(error).split())}"
