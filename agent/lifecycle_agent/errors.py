"""What users see when something is wrong: one line that says what, one that says what to do."""

from __future__ import annotations


class LifecycleAgentError(Exception):
    """An error written for the person who reads it.

    Args:
        message: one line, what is wrong, with the value that is wrong.
        hint: one line, what to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(LifecycleAgentError):
    """Wrong usage or configuration (exit code 2)."""

    exit_code = 2


class LockedError(LifecycleAgentError):
    """Another transition holds the lock and the caller does not want to wait (exit code 3)."""

    exit_code = 3


class MetadataUnavailableError(LifecycleAgentError):
    """Not on EC2, or the instance metadata service cannot be reached (exit code 4)."""

    exit_code = 4


class StepFailed(LifecycleAgentError):
    """A step could not do what it is for; the runner decides what that means for the rest."""


class Interrupted(Exception):
    """The agent itself was asked to stop (SIGTERM, SIGINT): the journal says where to go on."""
