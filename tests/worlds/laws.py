"""What holds in every world, whatever happens in it: each law reads what was written down.

What does not hold is raised as `Broken`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lifecycle_agent.journal import Journal, boot_id
from lifecycle_agent.model import POOL
from lifecycle_agent.standing import Phase, Standing, standing
from tests.stage import INSTANCE
from tests.worlds.world import GROUP, OURS, World

# Seconds without trouble in which an action that is open must have been answered: the longest pause between
# two looks at the metadata after trouble (15 s), and a transition as it is configured here, which takes a
# few.
ENOUGH_SECONDS = 22.0

# What a transition of each kind needs to have happened in the world.
TAKES_AWAY = {
    *("terminate", "enter-pool", "spot", "rebalance", "maintenance", "drain"),
}
RECORDS = {"found", "detach", "attach"}


class Broken(AssertionError):
    """A law is broken."""


def answered_in_time(world: World) -> None:
    """An action of our own hooks is never left to its timeout.

    Except where there were no `ENOUGH_SECONDS` in a row, from its beginning to its timeout, in which the
    machine was awake, the service was running, and both the metadata service and the group's API were in
    order.
    """
    with world.group.turn() as model:
        actions = [each for each in model.actions if each.hook.name in OURS]
    for action in actions:
        if "timeout" not in action.answered_by:
            continue
        free, calm = action.began, 0.0
        for begin, end in sorted((a or 0.0, b or world.clock()) for a, b in world.unable):
            if begin > action.due:
                break
            calm = max(calm, begin - free)
            free = max(free, end)
        if max(calm, action.due - free) >= ENOUGH_SECONDS:
            raise Broken(f"{action.hook.name} ran into its {action.answered_by}")


def only_our_hook(world: World) -> None:
    """Every CompleteLifecycleAction and every heartbeat, accepted or not, names a hook of ours, our group and
    our instance, and an accepted answer is for the transition that the hook is of.
    """
    for each in happened(world, "group"):
        if each.what not in ("CompleteLifecycleAction", "RecordLifecycleActionHeartbeat"):
            continue
        parameters = each.seen["parameters"]
        about = [parameters.get(key) for key in ("AutoScalingGroupName", "InstanceId")]
        if parameters["LifecycleHookName"] not in OURS or about != [GROUP, INSTANCE]:
            raise Broken(f"{each.what} for {parameters}")


def in_service_is_left_alone(world: World) -> None:
    """A registration is deleted only by a transition of a kind that takes the app away, which something in
    the world has asked for, and only once the app has been told to stop.

    Except that an app may still run where its stopping was skipped, for want of time or after too many
    deaths.
    """
    for each in happened(world, "registry"):
        if not each.what.endswith("is deleted"):
            continue
        lines = [line for line in world.journal() if line["at"] <= each.at]
        kind, transition = _current(lines)
        if kind not in TAKES_AWAY:
            raise Broken(f"deregistered in the middle of {kind or 'nothing'}")
        if not any(
            what.who == "cause" and what.what == kind and what.at <= each.at for what in world.history
        ):
            raise Broken(f"deregistered for {kind}, which nobody asked for")
        skipped = any(
            line["event"] == "ended"
            and line["name"] == "drain.http.1"
            and line["outcome"] in ("skipped", "failed")
            for line in lines
            if line["transition"] == transition
        )
        if each.seen["alive"] and not skipped:
            raise Broken(f"deregistered while it runs, by {transition}")


def finished_steps_are_not_repeated(world: World) -> None:
    """Within one transition a step that has ended does not start again.

    Except the answer, while it has failed: the group is still owed it.
    """
    ended: dict[str, dict[str, str]] = defaultdict(dict)
    for line in world.journal():
        done = ended[line["transition"]]
        if line["event"] == "ended":
            done[line["name"]] = line["outcome"]
        elif line["event"] == "started" and line["step"] in done:
            if line["step"] == "complete" and done["complete"] == "failed":
                continue
            raise Broken(f"{line['step']} of {line['transition']} was done already")


def one_at_a_time(world: World) -> None:
    """From the moment in which a process takes a transition up, every line of the journal is of that
    transition, until it is over, was told to stop, or the next process takes one up. What is only put on
    record has no process.
    """
    current, kinds = "", {}
    for line in world.journal():
        transition, event = line["transition"], line["event"]
        if event == "notice":
            kinds[transition] = line["notice"]["kind"]
        if kinds.get(transition) in RECORDS:
            continue
        if event == "attempt":
            current = transition
        elif event in ("started", "ended", "over", "interrupted") and transition != current:
            # A new one puts down what it need not do again before a process takes it up.
            if event == "ended" and line.get("seconds") is not None and current == "":
                continue
            if event == "ended" and transition not in _taken_up(world, line["at"]):
                continue
            raise Broken(f"{event} of {transition} in the middle of {current or 'nothing'}")
        if event in ("over", "interrupted"):
            current = ""


def up_only_after_ready(world: World) -> None:
    """No override is removed, and no launch into service is answered with CONTINUE, unless the app has said
    that it is ready since it was last stopped; and at that answer it is UP.
    """
    if not world.kind.launches:
        return  # nobody asks whether it is ready
    for each in world.history:
        if each.who == "registry" and "loses its override" in each.what and not each.seen["ready"]:
            raise Broken("taken into service before it was ready")
        if each.who == "group" and each.what == "CompleteLifecycleAction" and each.seen["outcome"] == "ok":
            parameters = each.seen["parameters"]
            if (
                parameters["LifecycleHookName"] != "warm-up"
                or parameters["LifecycleActionResult"] != "CONTINUE"
            ):
                continue
            if not each.seen["was_ready"]:
                raise Broken("launched before it was ready")
            into_pool = _current([line for line in world.journal() if line["at"] <= each.at], pool=True)[0]
            if (each.seen["status"] == "UP") == (into_pool == "pool"):
                raise Broken(f"launched while it is {each.seen['status'] or 'not registered'}")


def events_are_acted_on_once(world: World) -> None:
    """What EC2 announces under one id is carried through once."""
    about, finished = {}, set()
    for line in world.journal():
        if line["event"] == "notice" and line["notice"]["event"]:
            about[line["transition"]] = (line["notice"]["kind"], line["notice"]["event"])
        if line["event"] == "over" and line["transition"] in about:
            if about[line["transition"]] in finished:
                raise Broken(f"acted on twice: {about[line['transition']]}")
            finished.add(about[line["transition"]])


def commands_do_what_they_say(world: World) -> None:
    """A `drain` or `undrain` by hand that ends with 0 has seen a transition through that did it."""
    for hand in world.hands:
        if hand.code != 0 or hand.ended is None:
            continue
        kinds = {"undrain"} if hand.arguments[0] == "undrain" else {*TAKES_AWAY, "standby"}
        over, notices = False, {}
        for line in world.journal():
            if line["event"] == "notice":
                notices[line["transition"]] = line["notice"]
            told = notices.get(line["transition"], {})
            if line["event"] == "over" and hand.began <= line["at"] <= hand.ended:
                over |= told["kind"] in kinds and not told["only_told"]
        if not over:
            raise Broken(f"{' '.join(hand.arguments)} ended with 0, and nothing was done")


def nothing_unexpected(world: World) -> None:
    """No traceback; and the service does not end by itself."""
    for agent in (*world.services, *(each.agent for each in world.hands)):
        if agent.said("Traceback"):
            raise Broken("a traceback")
    if world.running().process.poll() is not None:
        raise Broken("the service has ended by itself")


ALWAYS: tuple[Callable[[World], None], ...] = (
    answered_in_time,
    only_our_hook,
    in_service_is_left_alone,
    finished_steps_are_not_repeated,
    one_at_a_time,
    up_only_after_ready,
    events_are_acted_on_once,
    commands_do_what_they_say,
    nothing_unexpected,
)


def where_it_stands(world: World) -> Standing:
    """By its journal."""
    return standing(Journal(world.directory / "state", INSTANCE).history(), boot_id())


def at_rest(world: World) -> str:
    """What is not yet as it is to be once everything is well and all is done; empty when it is.

    The group is not owed an answer by us, and nothing of ours runs but the service. An instance in service is
    UP, unless somebody has drained it by hand, EC2 has given a reason to, or the way back has failed and is
    tried again in a minute. Any other is not, unless standby is left alone.
    """
    with world.group.turn() as model:
        if any(each.active and each.hook.name in OURS for each in model.actions):
            return "the group waits for an answer"
    if world.transitions() or any(each.ended is None for each in world.hands):
        return "something runs"
    now, state, status = where_it_stands(world), world.state(), world.registered_as()
    caused = {each.what for each in world.history if each.who == "cause"}
    if not state.endswith("Terminated") and state not in (
        "InService",
        "Standby",
        "Detached",
        *(s.value for s in POOL),
    ):
        return f"the group has it in {state}"
    if state == "InService":
        excused = {
            Phase.DRAINED: "drain" in caused,
            Phase.INTERRUPTED: "spot" in caused,
            Phase.ADVISED: bool({"rebalance", "maintenance"} & caused),
            Phase.OUT: any(line.get("outcome") == "failed" for line in world.journal()),
        }
        if now.phase is Phase.IN_SERVICE and status != "UP":
            return f"in service, and {status or 'not registered'}"
        return (
            "" if now.phase is Phase.IN_SERVICE or excused.get(now.phase) else f"in service, and {now.phase}"
        )
    if state == "Detached" or (state == "Standby" and world.kind.standby == "ignore"):
        return ""
    return f"{state}, and UP" if status == "UP" else ""


def happened(world: World, who: str) -> list[Any]:
    """What somebody did."""
    return [each for each in world.history if each.who == who]


def _current(lines: Sequence[Mapping[str, Any]], pool: bool = False) -> tuple[str, str]:
    """Kind and id of the transition that was taken up last."""
    kind = transition = ""
    notices = {line["transition"]: line["notice"] for line in lines if line["event"] == "notice"}
    for line in lines:
        if line["event"] == "attempt":
            notice, transition = notices[line["transition"]], line["transition"]
            into_pool = pool and notice["target"] in [each.value for each in POOL]
            kind = "pool" if into_pool else notice["kind"]
    return kind, transition


def _taken_up(world: World, at: float) -> set[str]:
    return {line["transition"] for line in world.journal() if line["event"] == "attempt" and line["at"] <= at}
