"""The command line as it is, but dead by SIGKILL at one line of the journal.

Called with `before` or `after`, the line as `tests.fleet.job.boundary` has it, and the command line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from lifecycle_agent.cli import main
from lifecycle_agent.journal import Journal

side, fatal, *sys.argv[1:] = sys.argv[1:]
append = Journal._append


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def append_and_die(self: Journal, event: Mapping[str, Any]) -> None:
    here = " ".join(filter(None, [event["event"], event.get("step") or event.get("name", "")])) == fatal
    if here and side == "before":
        die()
    append(self, event)
    if here:
        die()


Journal._append = append_and_die  # type: ignore[method-assign]
main()
