"""What to do when the service is told to end: the same table, for the machine's sake. Pure."""

from __future__ import annotations

from dataclasses import replace

from lifecycle_agent.config import Config
from lifecycle_agent.model import (
    DRAINING,
    POOL,
    Ending,
    LifecycleTransition,
    Notice,
    NoticeKind,
    Observation,
    Outcome,
)
from lifecycle_agent.standing import Phase
from lifecycle_agent.watch.decision import Decision, Leave, Memory, Stay, start
from lifecycle_agent.watch.wanted import SERVING, TAKEN_AWAY, termination

# Seconds that a transition may be late when the machine goes down: its last tries, the end of its process.
# One that dies again and again, or hangs, must not hold the shutdown up for longer.
LATE_SECONDS = 5.0


def end(seen: Observation, ending: Ending, memory: Memory, now: float, config: Config) -> Decision:
    """What to do about the end of the service, which a transition may be the answer to, or not."""
    shutdown, standing, running = config.shutdown, memory.standing, memory.running
    ends = now + shutdown.timeout
    match ending, running:
        case Ending.STOP, None:
            return Leave("stopped; the app is left as it is")
        case Ending.STOP, _:
            return Leave("stopped in the middle of a transition; it goes on when the agent starts again")
        case _, Notice(ends=float(gone)) if now > gone + LATE_SECONDS:
            return Leave("the machine goes down; the time for it is up")
        case _, Notice(kind=NoticeKind.SHUTDOWN | NoticeKind.REBOOT):
            return Stay(memory.told)
        case Ending.REBOOT, Notice(kind=NoticeKind.TERMINATE):
            return Leave("the machine reboots; the termination goes on after it")
        case Ending.REBOOT, Notice(kind=NoticeKind.ENTER_POOL | NoticeKind.STANDBY as kind):
            return Leave(f"the machine reboots; {kind.value} goes on after it")
        case _, Notice(kind=NoticeKind.LAUNCH | NoticeKind.LEAVE_POOL):
            return Leave("the machine goes down in its launch, which goes on when it is up again")
        case _, Notice(kind=kind, only_told=False) if kind in DRAINING:
            if running.ends is not None and running.ends <= ends:
                return Stay(memory.told)
            # The group is owed an answer, whatever is configured for a shutdown.
            return start(replace(running, ends=ends), "the machine shuts down: there is less time")
    if running is not None:
        standing = standing.after(running, Outcome.DONE)
    if standing.phase is Phase.GONE or (standing.down and standing.this_boot):
        return Leave("the machine goes down; everything is done")
    if not seen.known:
        return Leave("the machine goes down; which instance it is was never known, so nothing is done")
    if seen.target in TAKEN_AWAY:
        if ending is Ending.REBOOT:
            return Leave("the machine reboots; the group takes it away after that")
        return start(replace(termination(now), ends=ends))
    if config.launches and (standing.phase is Phase.NEW or standing.launching):
        # A launch that has not begun, or goes on after a boot: to the group it is none in service.
        return Leave("the machine goes down before its launch, which begins when it is up again")
    drained = standing.phase is Phase.DRAINED
    serves = standing.phase in SERVING and not (standing.phase is Phase.NEW and seen.target in POOL)
    if not serves and not drained:
        return Leave("the machine goes down; it is not in service, so nothing is done")
    if ending is Ending.REBOOT:
        if running is None and drained and standing.finished and standing.this_boot:
            return Leave("the machine reboots; it was taken out of service by hand before")
        if shutdown.reboot == "ignore":
            return Leave('the machine reboots; [shutdown] reboot = "ignore"')
        return start(Notice(NoticeKind.REBOOT, "the machine reboots", now, ends=ends))
    if shutdown.poweroff == "ignore":
        return Leave('the machine is switched off; [shutdown] poweroff = "ignore"')
    off = Notice(
        NoticeKind.SHUTDOWN,
        "the machine is switched off",
        now,
        LifecycleTransition.TERMINATING,
        if_asked=True,
        ends=ends,
    )
    return start(off)
