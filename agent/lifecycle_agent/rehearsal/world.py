"""The emulated world: a group with two instances, a registry, a bucket, callers, all on loopback."""

from __future__ import annotations

import copy
import json
import signal
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.model import LifecycleTransition
from lifecycle_agent.rehearsal import settings
from lifecycle_agent.rehearsal.callers import Callers, Tally
from lifecycle_agent.rehearsal.eureka import EmulatedEureka
from lifecycle_agent.rehearsal.group import Group
from lifecycle_agent.rehearsal.imds import TARGET_STATE, Imds
from lifecycle_agent.rehearsal.lifecycle import LifecycleAction
from lifecycle_agent.rehearsal.machine import Machine, Process
from lifecycle_agent.rehearsal.manager import Manager
from lifecycle_agent.rehearsal.narrator import Narrator
from lifecycle_agent.rehearsal.net import free_port, host_name
from lifecycle_agent.rehearsal.outcome import Moment
from lifecycle_agent.rehearsal.pace import Pace
from lifecycle_agent.rehearsal.proof import Bucket
from lifecycle_agent.rehearsal.scene import Scene
from lifecycle_agent.rehearsal.timeline import Timeline
from lifecycle_agent.rehearsal.watching import Watching
from lifecycle_agent.rehearsal.webhook import Inbox, Told

GROUP, REGION = "orders", "us-east-1"
OURS, SURVIVOR = "i-0a1f4c9e27d3b5860", "i-0b7e2d8c41f6a9053"
# Each instance has an address of its own, as in a real network: all of 127/8 is this host's.
ADDRESSES = {OURS: "127.0.0.11", SURVIVOR: "127.0.0.12"}
LIFE_CYCLE, GROUP_TAG = "instance-life-cycle", "tags/instance/aws:autoscaling:groupName"
MOST_STATUS_BYTES = 1024 * 1024
START_SECONDS = 15.0  # for an interpreter on a busy machine, and a registration
PENDING_SECONDS = 0.2  # the group's own pace; in real life some seconds


class InVain(LifecycleAgentError):
    """Something was waited for, and did not come."""


class World:
    """Everything around the agent, and the machines; a context manager that leaves nothing behind.

    Args:
        config: what the user decided, at the rehearsal's speed already.
        timeline: told everything.
        scene: what is there at the beginning.
        real_commands: run the configuration's commands instead of echoing them.
        keep: leave the files.
    """

    def __init__(
        self,
        config: Config,
        pace: Pace,
        timeline: Timeline,
        scene: Scene = Scene(),  # noqa: B008 - frozen
        *,
        real_commands: bool = False,
        keep: bool = False,
    ) -> None:
        self.pace = pace
        self.timeline = timeline
        self.scene = scene
        self.app_name = (config.eureka.app or "ORDERS").upper()
        self.hook = config.hooks.terminate or "drain"
        self.notes: list[str] = []
        self._narrator = Narrator(timeline)
        self._config = config
        self._real_commands = real_commands
        self._stack = ExitStack()
        self._registered: set[str] = set()
        self._apps: dict[str, Process] = {}
        self._over = threading.Event()
        self.app_stopped = False
        self._healthy = False
        self.told: list[Told] = []
        self._changed = threading.Condition()
        if keep:
            self.root = Path(tempfile.mkdtemp(prefix="lifecycle-rehearsal-"))
        else:
            directory = tempfile.TemporaryDirectory(prefix="lifecycle-rehearsal-", ignore_cleanup_errors=True)
            self.root = Path(self._stack.enter_context(directory))
        self.machines = {name: Machine(name, ADDRESSES[name], self.root / name) for name in ADDRESSES}
        self.ours = self.machines[OURS]
        self._ports = {name: free_port(address) for name, address in ADDRESSES.items()}
        self.group = Group(
            self._narrator.group,
            name=GROUP,
            region=REGION,
            launch_delay=PENDING_SECONDS,
            deregistration_delay=pace.balancer,
            proceed_delay=min(0.5, pace.fetch / 10),
            pool_state=scene.pool,
            on_terminated=self.take_away,
        )
        auth = (config.eureka.username, settings.PASSWORD) if config.eureka.username else None
        self.eureka = EmulatedEureka(
            self._narrator.registry, cache_seconds=pace.cache, eviction_seconds=pace.evict, auth=auth
        )
        self.registry = self.eureka.url
        if auth:
            self.registry = self.registry.replace("://", f"://{auth[0]}:{auth[1]}@")
        self.imds = Imds(
            OURS,
            region=REGION,
            local_ipv4=ADDRESSES[OURS],
            local_hostname=host_name(ADDRESSES[OURS]),
            tags={"aws:autoscaling:groupName": GROUP},
        )
        if scene.spot:
            self.imds.set(LIFE_CYCLE, "spot")
        self.manager = Manager(lambda: self.start_app(self.ours))
        self.inbox = Inbox(self._notified)
        self.bucket = Bucket(self.group.url, config.logs.bucket if config.logs else "no-logs")
        self.callers = Callers(
            self.registry,
            self.app_name,
            timeline.now,
            fetch=pace.fetch,
            followed=self._followed,
        )
        self.watching = Watching(self.moment, lambda: self.ours.where(self.ours.state / "report.json"))

    # -- running it

    def __enter__(self) -> World:
        """Start everything."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self.close()

    def close(self) -> None:
        """End everything that was started, in the opposite order; a second Ctrl-C does not cut it short."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                before[number] = signal.signal(number, signal.SIG_IGN)
        self._stack.close()
        for number, handler in before.items():
            signal.signal(number, handler)

    def _start(self) -> None:
        for service in (self.group, self.eureka, self.imds, self.manager, self.inbox):
            service.start()
            self._stack.callback(service.stop)
        if self.scene.leaves:
            self.group.add_hook(self.hook, heartbeat_timeout=self.pace.heartbeat)
        if self.scene.arrives:
            name = self._config.hooks.launch or "warm-up"
            launching = LifecycleTransition.LAUNCHING
            self.group.add_hook(name, launching, heartbeat_timeout=self.pace.heartbeat)
        there = [machine for machine in self.machines.values() if not self._is_to_come(machine)]
        for machine in there:
            self.group.place(machine.instance_id)
        for machine in self.machines.values():
            self._stack.callback(machine.die)
        if self.scene.told_by_imds:
            self.imds.set(TARGET_STATE, lambda: self.group.target_state(OURS))
        if self._config.logs is not None:
            self.bucket.create()
        for machine in there:
            self.start_app(machine)
        self.wait("the apps are registered", lambda: len(self._registered) == len(there), START_SECONDS)
        # The first to ask fills the registry's cache: the callers, and only once there is something to fill
        # it with.
        self._write_config()
        self.callers.start()
        self._stack.callback(self.callers.stop)
        watcher = threading.Thread(target=self._watch_losses, daemon=True)
        watcher.start()
        self._stack.callback(watcher.join, 2.0)
        self.watching.start()
        self._stack.callback(self.watching.stop)
        self._stack.callback(self._over.set)

    def found_group(self, name: str, hook: str) -> None:
        """From now on the group is another one: it has another name, and another terminating hook."""
        with self.group.turn() as model:
            model.remove_hook(self.hook)
        self.group.name, self.hook = name, hook
        self.group.add_hook(hook, heartbeat_timeout=self.pace.heartbeat)
        self.imds.set(GROUP_TAG, name)

    def _is_to_come(self, machine: Machine) -> bool:
        return self.scene.arrives and machine is self.ours

    def start_app(self, machine: Machine) -> None:
        """Start the app on a machine, where it does not run yet."""
        running = self._apps.get(machine.instance_id)
        if running is not None and running.exit_code is None:
            return
        with self._changed:
            if machine is self.ours:
                self.app_stopped = self._healthy = False
        # An app that was there before the curtain rose has been healthy for long.
        new = self._is_to_come(machine) or running is not None
        starts = [f"--ready-after={self.pace.boot if self.scene.healthy else 'inf'}"] if new else []
        self._apps[machine.instance_id] = machine.start(
            "lifecycle_agent.rehearsal.app",
            f"--name={self.app_name}",
            f"--instance-id={machine.instance_id}",
            f"--address={machine.address}",
            f"--port={self._ports[machine.instance_id]}",
            f"--eureka={self.registry}",
            f"--renew={self.pace.renew}",
            f"--logs={machine.logs}",
            *starts,
            hears=lambda line: self._app_says(machine, line),
        )

    def _write_config(self) -> None:
        port = self._ports[OURS]
        outside = settings.Outside(
            eureka=self.eureka.url,
            app=f"http://{self.ours.address}:{port}",
            app_port=port,
            logs=self.ours.logs,
            state=self.ours.state,
            start=self.manager.command(self.ours.disk) if self.scene.arrives else (),
        )
        config, self.notes = settings.place(self._config, outside, self._real_commands)
        self.config_path = settings.write(config, self.ours.etc, self.inbox.url)

    def agent_environ(self) -> dict[str, str]:
        """What tells an agent where everything is: names that every AWS SDK and systemd know."""
        return {
            "AWS_ENDPOINT_URL": self.group.url,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url,
            "STATE_DIRECTORY": str(self.ours.state),
            "RUNTIME_DIRECTORY": str(self.ours.runtime),
        }

    def agent(self, *arguments: str, said: str | None = None) -> Process:
        """Start the real agent on our machine: a process of its program, with these arguments.

        Args:
            said: what it reads on its standard input.
        """
        return self.ours.start(
            "lifecycle_agent",
            "--config",
            str(self.config_path),
            *arguments,
            hears=self._narrator.agent,
            of_errors=True,
            said=said,
            **self.agent_environ(),
        )

    # -- waiting

    def wait(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for something to become true.

        Raises:
            InVain: it did not, in `seconds`.
        """
        deadline = Deadline.after(seconds)
        while not condition():
            if deadline.passed:
                raise InVain(
                    f"the rehearsal waited {seconds:.0f} s in vain: {what}",
                    f"with --keep, {self.root}/*/*.out has what its processes said",
                )
            with self._changed:
                self._changed.wait(0.05)

    def pause(self, seconds: float) -> None:
        """Let the world go on for a while."""
        self._over.wait(seconds)

    # -- what can be seen

    @property
    def registration(self) -> str:
        """The name under which the registry has our instance."""
        return self._registration(self.ours)

    def _registration(self, machine: Machine) -> str:
        return f"{host_name(machine.address)}:{self.app_name.lower()}:{self._ports[machine.instance_id]}"

    @property
    def status(self) -> str:
        """What the registry says of our instance; empty where it does not have it."""
        found = self.eureka.registry.anywhere(self.registration)
        return str(found["status"]) if found else ""

    @property
    def registered(self) -> bool:
        """Whether the registry has our instance, whatever it says about it."""
        return bool(self.status)

    @property
    def followed(self) -> bool:
        """Whether any caller still takes our instance for one to call."""
        return any(self.registration in view for view in self.callers.views())

    @property
    def called(self) -> int:
        """Requests that callers have sent our instance."""
        return self.tally().by_instance[self.registration]

    @property
    def polls(self) -> int:
        """How often the metadata service has been asked what the group wants."""
        return self.imds.requests[TARGET_STATE]

    @property
    def app(self) -> str:
        """How the app of our instance is: `up`, `starting` or `down`."""
        process = self._apps.get(OURS)
        if process is None or process.exit_code is not None or self.ours.dead.is_set():
            return "down"
        return "up" if self._healthy else "starting"

    def moment(self) -> Moment:
        """How our instance stands now."""
        state, status, app, called = self.group.state(OURS), self.status, self.app, self.called
        return Moment(self.seconds(), state, status, app, called, len(self.told))

    def asked(self) -> tuple[LifecycleAction, ...]:
        """The group's questions to our instance, in order, as they stand now."""
        with self.group.turn() as model:
            return tuple(copy.copy(action) for action in model.actions if action.instance_id == OURS)

    def tally(self) -> Tally:
        """What the callers counted so far."""
        return self.callers.tally()

    def seconds(self) -> float:
        """Since the beginning."""
        return self.timeline.now()

    def names(self) -> dict[str, str]:
        """What stands in events, and what is short enough for people's eyes; the longest first."""
        short: dict[str, str] = {}
        for machine in self.machines.values():
            registration = self._registration(machine)
            names = [f"{self.app_name}/{registration}", registration, machine.instance_id]
            short.update(dict.fromkeys(names, machine.instance_id[:6]))
        return short

    def agent_does(self) -> str:
        """What the agent's own status says of the transition, as `lifecycle-agent status` would show it."""
        try:
            with (self.ours.runtime / "status.json").open("rb") as file:
                status = json.loads(file.read(MOST_STATUS_BYTES))
            return str(status["transition"]["sentence"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    # -- what others tell us

    def _app_says(self, machine: Machine, line: str) -> None:
        try:
            said = json.loads(line)
            event = said.pop("event")
        except (ValueError, KeyError, AttributeError):
            return
        with self._changed:
            if machine is self.ours:
                self.app_stopped = self.app_stopped or event == "stopped"
                at_once = event == "serving" and not said.get("starting")
                self._healthy = self._healthy or event == "ready" or at_once
            if event == "registered":
                self._registered.add(machine.instance_id)
            self._changed.notify_all()
        self._narrator.app(machine.instance_id, event, said)

    def _notified(self, told: Told) -> None:
        with self._changed:
            self.told.append(told)
            self._changed.notify_all()
        self._narrator.notice(told)

    def _followed(self, came: frozenset[str], went: frozenset[str]) -> None:
        self._narrator.followed(self.callers.views(), came, went)

    def _watch_losses(self) -> None:
        """Say each second what the callers lost in it."""
        known = 0
        while not self._over.wait(1.0):
            lost = self.callers.tally().lost
            if len(lost) > known:
                self._narrator.lost(lost[known:])
                known = len(lost)

    def take_away(self, instance_id: str) -> None:
        """The machine is no more."""
        self.machines[instance_id].die()
        self._narrator.gone(instance_id)
