"""`lifecycle-agent drain --event`: what a group asks for by an event, where its metadata may be closed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from lifecycle_agent import config, logline
from lifecycle_agent.cli import Settings
from lifecycle_agent.cli.foreground import in_turn, leave, print_plan
from lifecycle_agent.cli.screen import Screen
from lifecycle_agent.cli.seen import wait_for_the_lock
from lifecycle_agent.clients.autoscaling import AutoScaling, GroupError, Membership
from lifecycle_agent.clients.event_bridge import MOST_BYTES, LifecycleEvent, read_event
from lifecycle_agent.clients.identity import machine_itself
from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline, boottime
from lifecycle_agent.errors import MetadataUnavailableError, UsageError
from lifecycle_agent.files import read_regular, state_dir
from lifecycle_agent.journal import Journal, boot_id
from lifecycle_agent.logline import logger
from lifecycle_agent.model import POOL, LifecycleTransition, Machine, Notice
from lifecycle_agent.standing import Phase, standing
from lifecycle_agent.transition.completion import CODEDEPLOY_PREFIX, EARLY_SECONDS, Next, after_refusal
from lifecycle_agent.watch.imds import MetadataClient

# For asking the group whether it means this instance: users wait for what follows, and it is tried without.
GROUP_SECONDS = 3.0


# Where an instance stands that may be launched, once more after a failure.
_TO_BE_LAUNCHED = (Phase.NEW, Phase.OUT, Phase.POOLED, Phase.REPLACED)


def carry_out_event(settings: Settings, source: str, reason: str | None, dry_run: bool, wait: bool) -> None:
    """Do what the event asks for and answer its lifecycle action. Ends the process with its exit code.

    Args:
        source: a file's path, or `-` for standard input.
        reason: for people; None for what the event says.

    Raises:
        UsageError: it is no event that this instance has to answer; nothing has been touched.
        MetadataUnavailableError: it cannot be told which instance this is.
    """
    loaded = config.load(settings.path)
    event = read_event(_content(source), time.time())
    if event.action.hook.startswith(CODEDEPLOY_PREFIX):
        raise UsageError(
            f"the event is for the hook {event.action.hook}, which CodeDeploy's own agent answers",
            "let the rule pass on the events of the agent's own lifecycle hook alone",
        )
    with Screen() as screen:
        logline.set_up(settings.verbose, quiet=screen.live and not dry_run)
        machine = _this_machine(event, loaded)
        said = f"the group asks hook {event.action.hook} by an event"
        notice = Notice(
            event.kind, reason or said, boottime(), event.transition, target=event.target, action=event.action
        )
        if dry_run:
            print_plan(notice, loaded)
            return
        journal = Journal(state_dir(loaded.agent.state_dir), machine.instance_id)
        if _is_answered(event, journal):
            click.echo("the lifecycle action of this event has its answer already: nothing is done", err=True)
            return
        _check_with_the_group(event, AutoScaling(machine.region, machine.instance_id).membership, journal)
        _warn_of_another_hook(event, loaded)
        machine = replace(machine, group=event.action.group)
        overtake: Callable[[], None] = lambda: wait_for_the_lock(notice, machine, loaded)  # noqa: E731
        code = in_turn(notice, machine, loaded, screen, wait, overtake)
    leave(code)


def _content(source: str) -> bytes:
    """What is in the file or comes from standard input, and one byte more than there may be."""
    try:
        if source == "-":
            return sys.stdin.buffer.read(MOST_BYTES + 1) if sys.stdin is not None else b""
        return read_regular(Path(source), MOST_BYTES)
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise UsageError(
            f"--event {source}: {what}", "name a file with the event in it, or - for standard input"
        ) from error


def _this_machine(event: LifecycleEvent, loaded: Config) -> Machine:
    """The machine we are on, which the event has to be for."""
    try:
        machine = MetadataClient().machine()
    except MetadataUnavailableError as error:
        logger.warning("%s; asking the machine itself which instance it is", error.message)
        machine = machine_itself(event.region, loaded.eureka.urls)
    if machine.instance_id != event.instance_id:
        raise UsageError(
            f"the event is for {event.instance_id}, and this is {machine.instance_id}",
            "nothing was done; it is that instance which has to be told",
        )
    if machine.group is not None and machine.group != event.action.group:
        raise _other_group(event, machine.group)
    return machine


def _is_answered(event: LifecycleEvent, journal: Journal) -> bool:
    """Whether an action that was answered here is the event's, or is a later one of the same hook's kind.

    EventBridge delivers at least once, and the service may have seen the same in the metadata.
    """
    sent = time.time() - event.age
    for each in journal.history():
        action = each.notice.action
        if not each.answered or each.notice.completes is not event.transition:
            continue
        if action is not None and action.token == event.action.token:
            return True
        # Events have whole seconds. What the service has answered in that very one is this action, since no
        # group comes to ask twice in a second; of another token is what was asked before.
        if _wall(each.ended_at) >= (sent if action is None else sent + 1.0):
            return True
    return False


def _wall(text: str) -> float:
    """The journal's wall clock in seconds; 0 for one that cannot be read."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def _check_with_the_group(
    event: LifecycleEvent, ask: Callable[[Deadline], Membership | None], journal: Journal
) -> None:
    """Refuse an event of another group, or of an action that is over.

    An event may come twice, and late: an instance that has been in the warm pool meanwhile, and is in service
    again, must not be drained for it. Where nobody answers, it is believed, unless it is to launch what the
    journal has in service.
    """
    try:
        found, problem = ask(Deadline.after(GROUP_SECONDS)), "no group knows this instance (any more)"
    except GroupError as error:
        found, problem = None, error.message
    if found is None:
        phase = standing(journal.history(), boot_id()).phase
        if event.transition is LifecycleTransition.LAUNCHING and phase not in _TO_BE_LAUNCHED:
            raise UsageError(
                f"{problem}, and by the journal {event.instance_id} is launched already: {phase.value}",
                "nothing was done; `lifecycle-agent complete --result CONTINUE` answers the group by hand",
            )
        logger.warning("%s; believing the event", problem)
        return
    if found.group != event.action.group:
        raise _other_group(event, found.group)
    following = after_refusal(found.state, event.transition)
    late = event.age > EARLY_SECONDS and following is Next.EARLY
    launched = event.transition is LifecycleTransition.LAUNCHING and following is Next.ANSWERED
    if late or (launched and found.state.word not in [state.value for state in POOL]):
        raise UsageError(
            f"the event is {event.age:.0f} s old, and the group has {event.instance_id} {found.state.word}:"
            " what it asked for is over",
            "nothing was done; "
            + ("it is launched already" if launched else "`lifecycle-agent drain` takes it out by hand"),
        )


def _other_group(event: LifecycleEvent, group: str) -> UsageError:
    return UsageError(
        f"the event is of the group {event.action.group!r}, and this instance is in {group!r}",
        "nothing was done; look at which group the EventBridge rule is for",
    )


def _warn_of_another_hook(event: LifecycleEvent, loaded: Config) -> None:
    terminating = event.transition is LifecycleTransition.TERMINATING
    key, configured = (
        ("terminate", loaded.hooks.terminate) if terminating else ("launch", loaded.hooks.launch)
    )
    if configured and configured != event.action.hook:
        logger.warning(
            "the event is for the hook %r, and hooks.%s is %r: answering the event's",
            event.action.hook,
            key,
            configured,
        )
