"""`lifecycle-agent ship`, not in the help: the watcher starts it, with `[logs] ship = "closed"`."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings

# Seconds that it is let live, whatever holds it up. A file that takes longer goes on with the next one.
MOST_SECONDS = 3600


@click.command()
@click.option("--seen", help="The machine and where the configuration is kept, as JSON, from the watcher.")
@click.pass_obj
def ship(settings: Settings, seen: str | None) -> None:
    """Upload logs that were rotated away, when the machine has nothing better to do."""
    _stand_back()
    from lifecycle_agent.cli.ship_closed import carry_out

    carry_out(settings, seen)


def _stand_back() -> None:
    """Everything else goes first, and memory is taken from this process before any other.

    Where a process has asked for no I/O class of its own, the idle policy is the idle class, too (Linux,
    include/linux/ioprio.h). Whoever may not do one of these goes on without.
    """
    import os
    import signal
    from contextlib import suppress

    signal.alarm(MOST_SECONDS)  # ends the process, without a handler that something could hold up
    with suppress(OSError):
        os.nice(19)  # for what knows no idle policy: a group of tasks with a share of its own
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
