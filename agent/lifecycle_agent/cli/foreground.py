"""What `drain` and `undrain` share: a transition by hand, or following the one that runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import NoReturn

import click

from lifecycle_agent import config, logline
from lifecycle_agent.cli import Settings
from lifecycle_agent.cli.screen import Screen
from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline, boottime
from lifecycle_agent.errors import Interrupted, LifecycleAgentError, LockedError
from lifecycle_agent.files import StatusFile, regular_only, runtime_dir, state_dir
from lifecycle_agent.journal import Journal, boot_id
from lifecycle_agent.logline import logger
from lifecycle_agent.model import (
    COMPLETE,
    LifecycleTransition,
    Machine,
    Notice,
    NoticeKind,
    Observation,
    Outcome,
    TargetState,
)
from lifecycle_agent.standing import Phase, standing
from lifecycle_agent.transition.conduct import conduct
from lifecycle_agent.transition.lock import TransitionLock
from lifecycle_agent.transition.plan import Plan, make_plan, time_key
from lifecycle_agent.transition.progress import Progress
from lifecycle_agent.watch.imds import MetadataClient
from lifecycle_agent.watch.supervisor import INTERRUPTED

# What leaves nothing for a drain by hand to do. After any other the app may come back by itself.
_AS_GOOD_AS_A_DRAIN = (NoticeKind.TERMINATE.value, NoticeKind.SHUTDOWN.value)

GROUP_SECONDS = 3.0  # for asking the group where the instance is: somebody sits before it

FOLLOW_SECONDS = 0.2  # between two looks at the lock of the transition that is followed


def carry_out(
    settings: Settings, kind: NoticeKind, reason: str, completes: LifecycleTransition | None, wait: bool
) -> None:
    """One transition by hand, drawn on a terminal. Ends the process with its exit code."""
    loaded = config.load(settings.path)
    with Screen() as screen:
        # On a terminal the picture says it; the transition's own log is kept whole all the same.
        logline.set_up(settings.verbose, quiet=screen.live)
        metadata = MetadataClient(config=loaded)
        machine = metadata.machine()
        journal = Journal(state_dir(loaded.agent.state_dir), machine.instance_id)

        def allowed() -> None:
            _not_in_a_launch(machine, journal, loaded)
            if kind is NoticeKind.UNDRAIN:
                _may_go_back(metadata.observe(), machine, journal, loaded)

        allowed()
        notice = Notice(kind, reason, boottime(), completes)
        code = in_turn(notice, machine, loaded, screen, wait, allowed=allowed)
    leave(code)


def leave(code: int) -> NoReturn:
    """End the process; one that was told to stop says how to go on, and the picture has gone by now."""
    if code == INTERRUPTED:
        again = "run the same command again to go on where it was, or `lifecycle-agent undrain` to go back"
        click.echo(f"stopped before the end; {again}", err=True)
    sys.exit(code)


def _may_go_back(seen: Observation, machine: Machine, journal: Journal, loaded: Config) -> None:
    """Refuse to bring an instance back that the group wants elsewhere: the service would only drain it again.

    Raises:
        LifecycleAgentError: it does.
    """
    # A termination goes on with what it has not done yet, whatever its metadata say just now.
    phase, target = standing(journal.history(), boot_id()).phase, seen.target
    if seen.spot is not None and loaded.spot.action == "drain":
        what = f"{machine.instance_id}, a spot instance"
        raise LifecycleAgentError(
            f"EC2 is to {seen.spot.what} {what}: it cannot go back into service",
            "wait until that is over: the agent takes it back then",
        )
    if seen.problem and phase is Phase.STANDBY:
        target = TargetState.STANDBY  # as far as anybody knows
    if phase is Phase.GONE or target in (TargetState.TERMINATED, TargetState.WARMED_TERMINATED):
        raise LifecycleAgentError(
            f"the group takes {machine.instance_id} away: it cannot go back into service",
            "let the termination come to its end; `lifecycle-agent status` shows it",
        )
    if target not in (TargetState.IN_SERVICE, TargetState.DETACHED, None):
        raise LifecycleAgentError(
            f"the group wants {machine.instance_id} {target.value}: it cannot go back into service",
            "bring it back in the group (for standby: ExitStandby), and the agent follows",
        )


def _not_in_a_launch(machine: Machine, journal: Journal, loaded: Config) -> None:
    """Refuse what would take the place of a launch, and leave its lifecycle action without an answer.

    Raises:
        LifecycleAgentError: the last transition owes the group its answer, or the next one may.
    """
    history = journal.history()
    phase, last = standing(history, boot_id()).phase, history[-1] if history else None
    launching = last is not None and last.notice.completes is LifecycleTransition.LAUNCHING
    if launching and last is not None and not last.settled:
        raise LifecycleAgentError(
            f"the group is launching this instance, and waits for {last.transition_id}",
            "let the service finish it (`lifecycle-agent status`), or have it replaced:"
            " `lifecycle-agent complete --result ABANDON`",
        )
    if phase is Phase.POOLED:
        raise LifecycleAgentError(
            f"{machine.instance_id} is in the warm pool: there is nothing to drain, or to take back",
            "to keep it from coming out again, have the group terminate it",
        )
    state = _state_in_the_group(machine) if phase is Phase.NEW and loaded.launches else ""
    if state.removeprefix("Warmed:").startswith("Pending"):
        raise LifecycleAgentError(
            f"the group is launching {machine.instance_id} ({state}), and waits for its answer",
            "let the service do that (`systemctl start lifecycle-agent`), or have it replaced:"
            " `lifecycle-agent complete --result ABANDON`",
        )


def _state_in_the_group(machine: Machine) -> str:
    """Where the group says that it is; empty where it is in none, or nobody answers."""
    from lifecycle_agent.clients.autoscaling import AutoScaling, GroupError

    try:
        client = AutoScaling(machine.region, machine.instance_id)
        found = client.membership(Deadline.after(GROUP_SECONDS))
    except GroupError as error:
        logger.warning(
            "%s; going on without knowing whether the group is launching this instance", error.message
        )
        return ""
    return found.state.word if found is not None else ""


def in_turn(
    notice: Notice,
    machine: Machine,
    loaded: Config,
    screen: Screen,
    wait: bool,
    overtake: Callable[[], None] | None = None,
    allowed: Callable[[], None] = lambda: None,
) -> int:
    """Carry the transition out, or follow the one that runs and do what that leaves undone.

    Args:
        overtake: takes the lock where one of another kind runs and has to give way; None to follow any.
        allowed: raises where it may not be done; asked once more after others have been waited for.

    Returns:
        The exit code.

    Raises:
        LockedError: another transition runs, and is not to be waited for.
        LifecycleAgentError: what `allowed` raises.
    """
    lock, kind = take_lock(), notice.kind.value
    code = None
    if not lock.acquire(kind):
        holder = lock.holder()
        if not wait:
            raise LockedError(f"another transition is running ({holder})", "leave out --no-wait to follow it")
        if overtake is not None and (holder is None or holder.kind != kind):
            overtake()
        else:
            code = _follow(lock, screen, notice)
            if code is None:
                allowed()
    if code is None:
        notice = replace(notice, seen_at=boottime())
        code = conducted(notice, machine, loaded, 0, lambda now: screen.show(asdict(now)))
    return code


def show_plan(
    settings: Settings, kind: NoticeKind, reason: str, completes: LifecycleTransition | None
) -> None:
    """Print what would be done, and on whose time."""
    print_plan(Notice(kind, reason, boottime(), completes), config.load(settings.path))


def print_plan(notice: Notice, loaded: Config) -> None:
    """The same for a notice."""
    click.echo("\n".join(_plan_lines(make_plan(notice, loaded), time_key(notice, loaded))))


def _plan_lines(plan: Plan, key: str) -> list[str]:
    if not plan.steps and not plan.completion_reserve:
        return ["nothing to do: none of [eureka], [drain], [logs] and [[notify]] is configured"]
    rows = [(step.name, f"{budget:.0f} s", step.what) for step, budget in plan.budgets()]
    if plan.completion_reserve:
        rows.append(("complete", f"{plan.completion_reserve:.0f} s", "answer the group's lifecycle hook"))
    column = max((len(row[0]) for row in rows), default=4)
    lines = [f"{'step':<{column}}  {'at most':>8}  what"]
    lines += [f"{name:<{column}}  {most:>8}  {what}" for name, most, what in rows]
    lines.append(f"{plan.total:.0f} s for all of it ({key}); a step gets what is left of that")
    kept = [f"{step.reserve:.0f} s for {step.name}" for step in plan.steps if step.reserve]
    kept += [f"{plan.completion_reserve:.0f} s for complete"] if plan.completion_reserve else []
    lines[-1] += "," if kept else "."
    if kept:
        lines.append("less what is kept for later: " + ", ".join(kept) + ".")
    return lines


def conducted(
    notice: Notice, machine: Machine, loaded: Config, deaths: int, watch: Callable[[Progress], None] | None
) -> int:
    """Carry a transition out, the lock in hand. Returns its exit code."""
    try:
        report = conduct(notice, machine, loaded, deaths, watch)
    except Interrupted:
        logger.warning("stopped before the end; the journal knows where to go on")
        return INTERRUPTED
    except ImportError as error:
        raise LifecycleAgentError(
            f"cannot go on: {error}: the installation is being replaced, or is broken",
            "the service starts again by itself; by hand, run the same command once more",
        ) from error
    return 1 if report is not None and report.outcome is Outcome.FAILED else 0


def _follow(lock: TransitionLock, screen: Screen, notice: Notice) -> int | None:
    """Show the running transition until its process ends.

    Returns:
        Its exit code where it did all that was asked for; None where that is still to be done, with
        the lock in hand.
    """
    status, kind = StatusFile(runtime_dir()), notice.kind
    click.echo(f"following the transition that is running ({lock.holder()})", err=True)
    while not lock.acquire(kind.value):
        shown = status.read().get("transition")
        if shown:
            screen.show(shown)
        time.sleep(FOLLOW_SECONDS)
    shown = status.read().get("transition") or {}
    followed = shown.get("kind")
    if followed != kind.value and (kind is not NoticeKind.DRAIN or followed not in _AS_GOOD_AS_A_DRAIN):
        return None
    if notice.completes is not None and COMPLETE not in shown.get("steps", ()):
        return None
    outcome = shown.get("outcome", "")
    if outcome not in [each.value for each in Outcome]:
        if notice.action is not None:
            return None  # the group has asked, and must have its answer from somebody
        raise LifecycleAgentError(
            f"the transition that was followed ended early: {outcome or 'its process died'}",
            "the service starts it again; without the service, run the same command once more",
        )
    screen.show(shown)
    click.echo(f"{shown['transition_id']}: {outcome}", err=True)
    return 1 if outcome == Outcome.FAILED.value else 0


def take_lock() -> TransitionLock:
    """The lock, in a directory that can be written.

    Raises:
        LifecycleAgentError: it cannot.
    """
    lock = TransitionLock(runtime_dir())
    try:
        lock.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(regular_only(str(lock.path), os.O_RDWR | os.O_CREAT))
    except OSError as error:
        raise LifecycleAgentError(
            f"{lock.path}: {error.strerror}",
            "run this as root, or set RUNTIME_DIRECTORY to a directory of yours",
        ) from error
    return lock
