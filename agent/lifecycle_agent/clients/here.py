"""Which of the two ways to run a command this machine has."""

from __future__ import annotations

import os
from pathlib import Path

from lifecycle_agent.clients.commands import Commands


def commands_here() -> Commands:
    """Transient units where systemd runs the machine and we may ask it, else process groups."""
    # The directory is how sd_booted(3) tells.
    if os.geteuid() == 0 and Path("/run/systemd/system").is_dir():
        from lifecycle_agent.clients.transient_unit import TransientUnits

        return TransientUnits()
    from lifecycle_agent.clients.process_group import ProcessGroups

    return ProcessGroups()
