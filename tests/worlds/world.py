"""A world that can be pushed around: a group, a registry, metadata, an app, people, a clock that jumps.

What happens in it is written down as it happens, with what could be seen at that moment: `laws.py` judges it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifecycle_agent.files import StatusFile
from lifecycle_agent.model import ActionResult, LifecycleTransition, TargetState
from lifecycle_agent.rehearsal.eureka import EmulatedEureka
from lifecycle_agent.rehearsal.group import Group
from lifecycle_agent.rehearsal.imds import TARGET_STATE, Imds
from lifecycle_agent.rehearsal.lifecycle import Refusal
from lifecycle_agent.rehearsal.proof import Bucket
from tests.stage import ADDRESS, APP, INSTANCE, Agent, until
from tests.worlds.app import REGISTRATION, App
from tests.worlds.clock import FOR_PYTHON, Clock

DRAIN_HOOK, LAUNCH_HOOK = "drain", "warm-up"
OURS = (DRAIN_HOOK, LAUNCH_HOOK)
FOREIGN, CODEDEPLOY = "somebody-else", "CodeDeploy-managed-automatic-launch-deployment-hook-orders-1"
GROUP = "rehearsal"

# Seconds. The shortest that AWS allows, which all pauses of the agent are made for.
HEARTBEAT = 30
# What a whole transition may take, and the app until it is ready: well within that.
TRANSITION, READY = 12, 6
LEAD = 900  # before maintenance

# Lifecycle states in which something begins that takes an app out of service, by the kind of its transition.
CAUSES = {
    "Terminating": "terminate",
    "Warmed:Terminating": "terminate",
    "Warmed:Pending": "enter-pool",
    "EnteringStandby": "standby",
}


@dataclass(frozen=True)
class Happened:
    """Something that happened, and what could be seen of the app just then; `at` is on the world's clock."""

    at: float
    who: str
    what: str
    seen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """What kind of a world it is.

    Args:
        begins: `found` in service, `launch`, or `pool` (launched into it).
        rests: the warm pool's word.
        named: whether the hooks are named in the configuration; only then is there a third party's hook of
        the same kind. launches: whether new instances are prepared here. advice: what rebalance
        recommendations and scheduled events start. standby: what standby starts. logs: whether they are
        saved.
    """

    begins: str = "found"
    rests: TargetState = TargetState.WARMED_RUNNING
    named: bool = True
    launches: bool = True
    advice: str = "drain"
    standby: str = "drain"
    logs: bool = False


class World:
    """All of it, on loopback; a context manager.

    Args:
        agent: a directory with another `lifecycle_agent` in it, for a broken one.
    """

    def __init__(self, directory: Path, kind: Kind, agent: Path | None = None) -> None:
        self.kind = kind
        self.directory = directory
        self.clock = Clock(directory / "clock")
        self.history: list[Happened] = []
        self.trace: list[str] = []
        self.config_path = directory / "config.toml"
        self.status = StatusFile(directory / "run")
        self.imds = Imds(INSTANCE, local_ipv4=ADDRESS, local_hostname="ip-10-0-0-7", clock=self.clock)
        self.eureka = EmulatedEureka(self._on_registry, cache_seconds=0.1)  # less than the agent waits for it
        self.group = _Noting(
            self._on_call, timeline=self._on_group, clock=self.clock, launch_delay=0.2,
            deregistration_delay=0.3, proceed_delay=0.2, pool_state=kind.rests,
        )  # fmt: skip
        self.app = App(self.eureka.url, lambda text: self.note("app", text))
        self.service: Agent | None = None
        self.hands: list[Hand] = []
        self.services: list[Agent] = []
        # When the agent could not do its work for what others did, on the world's clock; the end is None
        # until then.
        self.unable: list[list[float | None]] = []
        self._healing: dict[str, threading.Timer] = {}
        self._python_path = [str(FOR_PYTHON), *([str(agent)] if agent else [])]
        self._stack = ExitStack()
        self._events = 0

    # -- its beginning and end

    def __enter__(self) -> World:
        for part in (self.imds, self.eureka, self.group, self.app):
            self._stack.enter_context(part)
        self._configure()
        kind = self.kind
        for name, transition in (
            (DRAIN_HOOK, LifecycleTransition.TERMINATING),
            (LAUNCH_HOOK, LifecycleTransition.LAUNCHING),
        ):
            if name == DRAIN_HOOK or kind.launches:
                self.group.add_hook(name, transition, heartbeat_timeout=HEARTBEAT)
        self.imds.set("instance-life-cycle", "spot")
        self.imds.set(TARGET_STATE, lambda: self.group.target_state(INSTANCE) or "InService")
        if kind.begins == "found":
            self.group.place(INSTANCE)
            self.app.begin()
            until(lambda: self.registered_as() == "UP")
        elif kind.begins == "launch":
            self.group.launch(INSTANCE)
        else:
            self.group.launch_into_pool(INSTANCE)
        self.start_service()
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._healing.values():
            timer.cancel()
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for agent in (*self.services, *(each.agent for each in self.hands)):
            agent.wait()
        self._stack.close()

    def _configure(self) -> None:
        kind, lines = self.kind, []
        if kind.named:
            lines += ["[hooks]", f'terminate = "{DRAIN_HOOK}"']
            lines += [f'launch = "{LAUNCH_HOOK}"'] if kind.launches else []
        if kind.launches:
            lines += [
                "[launch]",
                f'timeout = "{TRANSITION}s"',
                "[launch.ready]",
                f'url = "{self.app.url}/health"',
            ]
            lines += [f'timeout = "{READY}s"']
        if kind.logs:
            bucket = Bucket(self.group.url, f"logs-{uuid.uuid4()}")
            bucket.create()
            (self.directory / "orders.log").write_text("the last order\n" * 100)
            lines += ["[logs]", f'bucket = "{bucket.name}"', f'paths = ["{self.directory}/orders.log"]']
        self.config_path.write_text(
            f"""
            [agent]
            poll_interval = "200ms"
            state_dir = "{self.directory}/state"
            [eureka]
            urls = ["{self.eureka.url}"]
            app = "{APP}"
            settle = "300ms"
            [drain]
            timeout = "{TRANSITION}s"
            [[drain.http]]
            url = "{self.app.url}/stop"
            [rebalance]
            action = "{kind.advice}"
            [maintenance]
            action = "{kind.advice}"
            lead = "{LEAD}s"
            [standby]
            action = "{kind.standby}"
            """
            + "\n".join(lines)
        )

    # -- writing down

    def note(self, who: str, what: str, **seen: Any) -> None:
        """Something has happened."""
        facts = {
            "alive": self.app.alive,
            "ready": self.app.ready_said_at > self.app.stopped_at,
            "was_ready": self.app.ready_said_at > 0,
            "status": self.registered_as(),
        }
        self.history.append(Happened(self.clock(), who, what, {**facts, **seen}))

    def _on_registry(self, _: str, what: str) -> None:
        self.note("registry", what)

    def _on_group(self, _: str, what: str) -> None:
        self.note("state", what)
        state = what.rpartition(" -> ")[2]
        if state in CAUSES:
            self.note("cause", CAUSES[state])

    def _on_call(self, operation: str, outcome: str, parameters: dict[str, Any]) -> None:
        self.note("group", operation, outcome=outcome, parameters=parameters)

    def did(self, what: str) -> None:
        """What a rule did: the trace that people read when something is wrong."""
        self.trace.append(f"{self.clock():9.2f}  {what}")

    # -- what can be seen

    def registered_as(self) -> str:
        """What callers see of the app; empty if they see nothing."""
        found = self.eureka.registry.anywhere(REGISTRATION)
        return str(found["status"]) if found else ""

    def state(self) -> str:
        """Where the group says the instance is."""
        return self.group.state(INSTANCE)

    def journal(self) -> list[dict[str, Any]]:
        """Its lines."""
        try:
            text = (self.directory / "state" / "journal.jsonl").read_text()
        except FileNotFoundError:
            return []
        # One that is being written is not a line yet.
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def processes(self, having: str = "") -> list[int]:
        """The agent's processes of this world that live, with `having` in their command line."""
        ours, found = os.fsencode(self.config_path), []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError):
                if entry.name.isdigit():
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    if ours in words and state != "Z" and (not having or having.encode() in words):
                        found.append(int(entry.name))
        return found

    def transitions(self) -> list[int]:
        """The processes of transitions that the watcher has started."""
        return self.processes("--notice")

    # -- the service

    def environ(self) -> dict[str, str]:
        """What tells an agent where everything is."""
        return {
            **os.environ,
            "AWS_ENDPOINT_URL": self.group.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url,
            "RUNTIME_DIRECTORY": str(self.directory / "run"),
            "WORLD_CLOCK": str(self.clock.path),
            "PYTHONPATH": os.pathsep.join(self._python_path),
        }

    def _agent(self, *arguments: str) -> Agent:
        return Agent(self.environ(), "--config", str(self.config_path), *arguments)

    def start_service(self) -> None:
        """As systemd starts it."""
        self.service = self._agent("run")
        self.services.append(self.service)

    def running(self) -> Agent:
        """The service."""
        assert self.service is not None
        return self.service

    @contextlib.contextmanager
    def without_agent(self) -> Iterator[None]:
        """While this lasts, nobody can expect anything of it."""
        away: list[float | None] = [self.clock(), None]
        self.unable.append(away)
        yield
        away[1] = self.clock()

    # -- what goes wrong

    def trouble(self, what: str, begin: Callable[[], None], end: Callable[[], None], seconds: float) -> None:
        """Something is out of order for so long; it goes on meanwhile."""
        before = self._healing.pop(what, None)
        if before is not None:
            before.cancel()
            before.function()
        away: list[float | None] = [self.clock(), None]
        self.unable.append(away)
        begin()

        def heal() -> None:
            end()
            away[1] = away[1] or self.clock()

        timer = self._healing[what] = threading.Timer(seconds, heal)
        timer.daemon = True
        timer.start()

    def all_is_well(self) -> None:
        """Nothing is out of order any more."""
        for timer in self._healing.values():
            timer.cancel()
            timer.join()
            timer.function()
        self._healing.clear()

    # -- the machine

    def sleep(self, seconds: float) -> None:
        """The machine is hibernated for so long: nothing of it runs, and everything else goes on."""
        with self.without_agent():
            stopped: set[int] = set()
            while new := set(self.processes()) - stopped:
                for pid in new:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGSTOP)
                stopped |= new
            self.clock.jump(seconds)
            self.group.tick()
        for pid in stopped:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)

    def announce(self, path: str, value: Any) -> None:
        """EC2 says something of this machine; None takes it back."""
        self.imds.set(path, value if value is None else json.dumps(value))

    def new_event(self) -> str:
        """An id."""
        self._events += 1
        return f"instance-event-{self._events:017d}"

    # -- people

    def by_hand(self, *arguments: str) -> None:
        """Somebody types a command; it runs beside everything else."""
        self.hands.append(Hand(self.clock(), arguments, self._agent(*arguments), self.clock))

    def others_answer(self) -> bool:
        """Those whose the other hooks are answer; False when nobody asks them."""
        with self.group.turn() as model:
            theirs = [each for each in model.actions if each.active and each.hook.name not in OURS]
            for action in theirs:
                with contextlib.suppress(Refusal):  # cancelled by the one before
                    model.complete(action.hook.name, ActionResult.CONTINUE, instance_id=INSTANCE)
        return bool(theirs)


class Hand:
    """A command by hand, and when it ended."""

    def __init__(self, began: float, arguments: tuple[str, ...], agent: Agent, clock: Clock) -> None:
        self.began, self.arguments, self.agent = began, arguments, agent
        self.ended: float | None = None
        self._clock = clock
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def code(self) -> int | None:
        """Its exit code."""
        return self.agent.process.returncode if self.ended is not None else None

    def _wait(self) -> None:
        self.agent.process.wait()
        self.ended = self._clock()


class _Noting(Group):
    """Tells each call when it has been carried out."""

    def __init__(self, on_call: Callable[[str, str, dict[str, Any]], None], **settings: Any) -> None:
        super().__init__(**settings)
        self._on_call = on_call

    def note(self, operation: str, outcome: str, parameters: dict[str, Any]) -> None:
        super().note(operation, outcome, parameters)
        self._on_call(operation, outcome, parameters)
