"""The real agent in random worlds: whatever happens there, the laws of `laws.py` hold.

Group events, notices, faults, restarts, a machine that sleeps, and people, as Hypothesis draws them. What is
drawn does not depend on what the processes do: a rule draws a number, and does the so-manieth thing that is
possible just then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from lifecycle_agent.model import LifecycleTransition, TargetState
from lifecycle_agent.rehearsal.group_faults import Fault
from lifecycle_agent.rehearsal.imds import TARGET_STATE, Trouble
from tests.stage import INSTANCE, until
from tests.worlds.laws import ALWAYS, Broken, at_rest
from tests.worlds.world import CODEDEPLOY, FOREIGN, HEARTBEAT, LEAD, Happened, Kind, World

STEPS = 9  # at most, in one life: some 5 s
REST_SECONDS = HEARTBEAT + 30.0

PICK = st.integers(0, 11)
MOMENT = st.sampled_from([0.5, 1.0, 2.0, 4.0])

KINDS = st.builds(
    Kind,
    begins=st.sampled_from(["found", "launch", "found", "pool"]),
    rests=st.sampled_from([TargetState.WARMED_RUNNING, TargetState.WARMED_HIBERNATED]),
    named=st.booleans(),
    launches=st.sampled_from([True, True, False]),
    advice=st.sampled_from(["drain", "notify"]),
    standby=st.sampled_from(["drain", "drain", "out-of-service", "ignore"]),
    logs=st.booleans(),
).filter(lambda kind: kind.launches or kind.begins == "found")

# Lifecycle states, and what a group does with an instance there; what is done more often is there twice.
MOVES = {
    "InService": ("standby", "pool", "terminate", "detach", "pool"),
    "Standby": ("in service", "in service", "terminate"),
    "Detached": ("attach",),
    "Warmed:Running": ("leave pool", "leave pool", "terminate"),
    "Warmed:Hibernated": ("leave pool", "leave pool", "terminate"),
    "Pending:Wait": ("terminate",),
    "Warmed:Pending:Wait": ("terminate",),
}

IMDS_TROUBLE: tuple[Trouble | int, ...] = (
    *(Trouble.EMPTY, Trouble.GARBAGE, Trouble.HANG, Trouble.DRIP, Trouble.RESET),
    *(401, 429, 500, 503),
)

FAULTS = (
    *(Fault("*", "Throttling", None), Fault("*", "InternalFailure", None), Fault("*", "AccessDenied", None)),
    *(Fault("CompleteLifecycleAction", "Throttling", 2), Fault("CompleteLifecycleAction", "AccessDenied", 1)),
    Fault("CompleteLifecycleAction", "ServiceUnavailable", 1, after=True),
    Fault("RecordLifecycleActionHeartbeat", "AccessDenied", None),
    *(Fault("DescribeAutoScalingInstances", "ExpiredToken", 2), Fault("*", "", None, delay=1.0)),
)


class Worlds(RuleBasedStateMachine):
    """One world after the other."""

    agent: Path | None = None  # a directory with another agent in it
    found: str = ""  # what was broken, in the first world in which something was
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="world-"))
        self.begun = False
        self.t0 = time.monotonic()
        self.over = False  # something was broken: nothing else is to be found out

    @initialize(kind=KINDS)
    def begin(self, kind: Kind) -> None:
        if self.found:
            raise Broken("in another world already: Hypothesis tries again, and no process is twice the same")
        self.world = World(self.directory, kind, self.agent)
        self.world.__enter__()
        self.begun = True
        self.did(f"{kind}")
        self.waits(1.0)

    def did(self, what: str) -> None:
        self.world.did(what)

    # -- the group

    @rule(pick=PICK)
    def group_moves(self, pick: int) -> None:
        """Scale-in, standby, the warm pool, detaching, an instance refresh (a termination like any other)."""
        world, state = self.world, self.world.state()
        moves = MOVES.get(state, ())
        if not moves:
            return self.waits(0.3)
        move, group = moves[pick % len(moves)], world.group
        self.did(f"group: {state}: {move}")
        {
            "terminate": group.terminate,
            "standby": group.enter_standby,
            "in service": group.exit_standby,
            "pool": group.return_to_pool,
            "leave pool": group.leave_pool,
            "detach": group.detach,
            "attach": group.attach,
        }[move](INSTANCE)
        return None

    @rule(pick=PICK)
    def others(self, pick: int) -> None:
        """Hooks of others come and are answered, by those whose they are."""
        world, group = self.world, self.world.group
        if world.others_answer():
            return self.did("others answer their hooks")
        kinds = list(LifecycleTransition)
        name = CODEDEPLOY if pick % 3 or not world.kind.named else FOREIGN
        kind = kinds[pick % 2]
        if f"{name}-{kind.name}" not in group_hooks(world):
            self.did(f"a hook of others for {kind.name}: {name}")
            group.add_hook(f"{name}-{kind.name}", kind, heartbeat_timeout=600)
        return None

    # -- EC2

    @rule(pick=PICK, seconds=st.sampled_from([20, 60, 120]))
    def something_is_announced(self, pick: int, seconds: int) -> None:
        """Interruptions, recommendations, scheduled events; and all of that taken back."""
        world = self.world
        at = world.clock.wall() + seconds
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        what = ("spot", "no spot", "rebalance", "maintenance", "no maintenance", "spot")[pick % 6]
        self.did(f"EC2: {what}")
        if what in ("spot", "rebalance", "maintenance"):
            world.note("cause", what)
        match what:
            case "spot":
                action = ("terminate", "stop", "hibernate")[pick % 3]
                world.announce("spot/instance-action", {"action": action, "time": moment})
            case "no spot":
                world.announce("spot/instance-action", None)
            case "rebalance":
                world.announce("events/recommendations/rebalance", {"noticeTime": moment})
            case "maintenance":
                soon = time.gmtime(at + LEAD * (pick % 2) / 2)
                event = {"Code": "system-reboot", "State": "active", "EventId": world.new_event()}
                event["NotBefore"] = time.strftime("%d %b %Y %H:%M:%S GMT", soon)
                world.announce("events/maintenance/scheduled", [event])
            case _:
                world.announce("events/maintenance/scheduled", [])

    # -- what goes wrong

    @rule(pick=PICK, seconds=MOMENT)
    def metadata_service_fails(self, pick: int, seconds: float) -> None:
        kind, imds = IMDS_TROUBLE[pick % len(IMDS_TROUBLE)], self.world.imds
        path = TARGET_STATE if pick % 4 == 3 else ""
        self.did(f"IMDS: {kind} {path} for {seconds} s")
        self.world.trouble("imds", partial(imds.fail, kind, path), imds.heal, seconds)

    @rule(hangs=st.booleans(), seconds=MOMENT)
    def registry_fails(self, hangs: bool, seconds: float) -> None:
        eureka = self.world.eureka
        self.did(f"registry: {'hangs' if hangs else '503'} for {seconds} s")
        self.world.trouble("eureka", eureka.hang if hangs else eureka.fail, eureka.heal, seconds)

    @rule(pick=PICK, seconds=MOMENT)
    def the_group_api_fails(self, pick: int, seconds: float) -> None:
        """Throttling, 500, 403, and a reply that is lost after the call was carried out."""
        wanted, group = FAULTS[pick % len(FAULTS)], self.world.group
        fault = Fault(wanted.operation, wanted.code, wanted.times, wanted.delay, wanted.after)
        self.did(f"Auto Scaling: {fault} for {seconds} s")
        self.world.trouble("group", partial(group.fail, fault), group.heal, seconds)

    @rule(seconds=MOMENT)
    def the_app_is_ill(self, seconds: float) -> None:
        app = self.world.app
        self.did(f"the app is ill for {seconds} s")
        self.world.trouble(
            "app", partial(setattr, app, "ill", True), partial(setattr, app, "ill", False), seconds
        )

    # -- processes, and the machine

    @rule(pick=PICK, pause=st.sampled_from([0.0, 0.0, 1.0]))
    def something_dies(self, pick: int, pause: float) -> None:
        """The watcher, with its transition or without, the transition alone, or a command by hand."""
        world = self.world
        transitions = world.transitions()
        hands = [each for each in world.hands if each.ended is None]
        if hands and pick % 4 == 3:
            self.did("the command by hand is killed")
            return kill(hands[-1].agent.pid)
        if transitions and pick % 2:
            self.did(f"the transition is killed: {transitions}")
            return kill(*transitions)
        service = world.running()
        together = pick % 4 == 0
        self.did(f"the watcher is killed{', and its transition' if together else ''}; down for {pause} s")
        with world.without_agent():
            kill(service.pid, *(transitions if together else ()))
            service.wait()
            time.sleep(pause)
            world.start_service()
        return None

    @rule(pause=st.sampled_from([0.0, 1.0]))
    def service_is_restarted(self, pause: float) -> None:
        """As an upgrade does it."""
        world = self.world
        self.did(f"the service is stopped, and started after {pause} s")
        with world.without_agent():
            code = world.running().stop()
            # The signal itself, as long as it has not got so far as to take any.
            if code not in (0, -signal.SIGTERM) or world.transitions():
                raise self.broken(f"stopped with {code}, and left {world.transitions()}")
            time.sleep(pause)
            world.start_service()

    @rule(seconds=st.sampled_from([3, 10, 70, 7 * 3600]))
    def machine_sleeps(self, seconds: int) -> None:
        """Hibernated in the middle of whatever it does, and resumed."""
        self.did(f"the machine sleeps for {seconds} s")
        self.world.sleep(seconds)

    # -- people

    @rule(pick=PICK)
    def somebody_does_something(self, pick: int) -> None:
        """`drain`, `undrain`, `drain --complete` where the group takes it away, and ^C."""
        world = self.world
        hands = [each for each in world.hands if each.ended is None]
        if hands and pick % 2:
            times = 1 + pick // 2 % 2
            self.did(f"^C, {times} times")
            for _ in range(times):
                with contextlib.suppress(OSError):
                    os.kill(hands[-1].agent.pid, signal.SIGINT)
                time.sleep(0.1)
            return
        words = [("drain",), ("undrain",), ("drain", "--no-wait"), ("undrain",)]
        if "Terminating" in world.state():
            words = [("drain", "--complete")]
        chosen = words[pick // 2 % len(words)]
        self.did(" ".join(chosen))
        if chosen[0] == "drain":
            world.note("cause", "drain")
        world.by_hand(*chosen)

    @rule(seconds=st.sampled_from([0.2, 0.7, 1.5, 3.0]))
    def waits(self, seconds: float) -> None:
        """Time passes."""
        time.sleep(seconds)

    # -- what holds

    @invariant()
    def laws(self) -> None:
        if self.begun:
            self.hold(*ALWAYS)

    def hold(self, *laws: Callable[[World], None]) -> None:
        for law in laws:
            try:
                law(self.world)
            except Broken as broken:
                raise self.broken(f"{law.__name__}: {broken}") from None

    def broken(self, what: str) -> Broken:
        self.over = True
        type(self).found = f"{what}\n{story(self.world)}"
        return Broken(what)

    def rest(self) -> None:
        """Once all is well the agent comes to rest by itself, with every answer given."""
        world = self.world
        world.all_is_well()
        self.did("all is well")
        world.others_answer()
        polls = world.imds.requests[TARGET_STATE]
        quiet: list[float] = []

        def rested() -> bool:
            world.others_answer()
            if at_rest(world) or world.imds.requests[TARGET_STATE] < polls + 3:
                quiet.clear()
                return False
            quiet.append(time.monotonic())
            return quiet[-1] - quiet[0] > 1.0

        def comes_to_rest(_: World) -> None:
            try:
                until(rested, REST_SECONDS)
            except TimeoutError:
                raise Broken(f"after {REST_SECONDS:.0f} s: {at_rest(world) or 'not for long'}") from None

        self.hold(comes_to_rest, *ALWAYS)
        if world.running().stop() != 0 or world.processes():
            raise self.broken(f"something is left behind: {world.processes()}")

    def teardown(self) -> None:
        try:
            if self.begun and not self.over:
                self.rest()
        finally:
            if self.begun:
                print("WORLD", time.monotonic() - self.t0, *self.world.trace, sep="\n")
                self.world.__exit__(None, None, None)
            shutil.rmtree(self.directory, ignore_errors=True)


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def group_hooks(world: World) -> list[str]:
    with world.group.turn() as model:
        return list(model.hooks)


def story(world: World) -> str:
    """What people need to see what went wrong."""
    journal = []
    for line in world.journal():
        about = line.get("step") or line.get("name") or line.get("outcome") or ""
        journal.append(
            (line["at"], f"  journal {line['transition']}: {line['event']} {about} {line.get('detail', '')}")
        )
    seen = [(each.at, f"  {each.who}: {each.what} {shown(each)}") for each in world.history]
    did = [(float(line.split()[0]), f"* {line.split(maxsplit=1)[1]}") for line in world.trace]
    lines = [f"{at:9.2f} {text}" for at, text in sorted([*journal, *seen, *did], key=lambda each: each[0])]
    said = [line for agent in world.services[-2:] for line in agent.lines[-40:]]
    by_hand = [f"{' '.join(each.arguments)} -> {each.code}: {each.agent.lines[-3:]}" for each in world.hands]
    return "\n".join([*lines, *said, *by_hand])


def shown(each: Happened) -> str:
    """The app as it was then, and what is of interest of a call."""
    if each.who == "group":
        parameters = each.seen["parameters"]
        named = (parameters.get(key, "") for key in ("LifecycleHookName", "LifecycleActionResult"))
        return " ".join([each.seen["outcome"], *named])
    words = [word for word in ("alive", "ready") if each.seen[word]]
    return f"[{' '.join(filter(None, [*words, each.seen['status']]))}]"


def explore(examples: int, at_random: int, machine: type[Worlds] = Worlds) -> None:
    """So many worlds, with so many events in each at most."""

    class Seeded(machine):  # type: ignore[misc, valid-type]
        """With a seed of its own."""

    seed(at_random)(Seeded)
    how = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        # Nothing is made smaller: each try takes its seconds, and may go another way.
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Seeded, settings=how)
    except Exception as error:
        raise Broken(f"seed {at_random}: {Seeded.found or error}") from (None if Seeded.found else error)
