"""The resident process: observe, decide, act, report, once every poll interval."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import replace as remade
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_agent import __version__
from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline, boottime
from lifecycle_agent.errors import MetadataUnavailableError
from lifecycle_agent.files import StatusFile, read_regular, replace, runtime_dir, state_dir
from lifecycle_agent.logline import logger, utc
from lifecycle_agent.model import (
    INTO_SERVICE,
    Ending,
    Machine,
    Notice,
    NoticeKind,
    Observation,
    Outcome,
    TargetState,
)
from lifecycle_agent.standing import Phase
from lifecycle_agent.watch.decide import decide
from lifecycle_agent.watch.decision import Decision, Leave, Memory, Start
from lifecycle_agent.watch.decision import Record as PutOnRecord
from lifecycle_agent.watch.ending import LATE_SECONDS
from lifecycle_agent.watch.imds import OBSERVE_SECONDS, MetadataClient
from lifecycle_agent.watch.record import Record
from lifecycle_agent.watch.ship import Shipping
from lifecycle_agent.watch.supervisor import DONE, GAVE_WAY, STOP_SECONDS, Supervisor
from lifecycle_agent.watch.systemd import Manager, why_it_ends

if TYPE_CHECKING:
    from lifecycle_agent.watch.lease import Lease

# What the group wants stands in the metadata until it is done, so asking late only delays; a fleet
# that asks a throttled service more often makes it worse.
LONGEST_PAUSE = 15.0

MOST_REPORT = 1024 * 1024  # bytes; a report is some 10 KiB

# Seconds between two tries to get back into service, at first and at most: each looks for as long as a
# transition may take, and is a notice when it fails.
RETURN_PAUSE = (60.0, 3600.0)
# Seconds until it is looked again whether something else is to be done than what somebody does by hand.
GAVE_WAY_PAUSE = 5.0

# Where the app is in service as far as anybody knows, and its registration is kept alive.
REGISTERED = (Phase.IN_SERVICE, Phase.DETACHED)

REGISTER = "discovery.register"  # the step that registers it; what names the steps is not for the watcher

# The way back into service.
_BACK = (NoticeKind.RETURN, NoticeKind.UNDRAIN)


class Signals:
    """Signals that only enqueue: a handler does nothing, the wake-up descriptor carries the number."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def wait(self, seconds: float) -> set[int]:
        """The signals that arrived within `seconds`; returns with the first."""
        select.select([self._reader], [], [], max(0.0, seconds))
        try:
            return set(os.read(self._reader, 512))
        except BlockingIOError:
            return set()


class Watcher:
    """Everything that one cycle needs, and what is remembered from the one before."""

    def __init__(self, config: Config, config_path: Path) -> None:
        self._config = config
        self._config_path = config_path
        self._metadata = MetadataClient(config=config)
        self._manager = Manager()
        self._signals = Signals()
        self._status = StatusFile(runtime_dir())
        self._machine: Machine | None = None
        self._record: Record | None = None
        self._memory = Memory()
        self._transition: Supervisor | None = None
        logs = config.logs if config.logs and config.logs.ship == "closed" else None
        self._shipping = Shipping(logs.ship_interval if logs else None, self._ship_command)
        self._lease = self._make_lease(config)
        self._problems = 0
        self._sentence = ""
        self._ending: Ending | None = None
        self._returns = 0
        self._kept = self._keep(config)

    def run(self) -> None:
        """Cycle until told to end (SIGTERM, SIGINT), and to the end of what that asks for."""
        self._manager.ready()
        while not isinstance(decision := self._cycle(), Leave):
            arrived = self._signals.wait(self._pause())
            if arrived & {signal.SIGTERM, signal.SIGINT} and self._ending is None:
                self._told_to_end()
        self._stop(decision.sentence)

    def _cycle(self) -> Decision:
        seen = self._observe()
        self._problems = self._problems + 1 if seen.problem else 0
        if self._transition is not None:
            self._transition.check()
            self._memory = self._remember(self._transition)
        if self._transition is None and self._record is not None:
            # Somebody may have drained the machine by hand, or have taken it back.
            standing = self._record.standing()
            by_hand = "" if standing.finished else self._by_hand()
            if standing != self._memory.standing:
                self._memory = Memory()  # what was waited for was before that
            self._memory = remade(self._memory, standing=standing, by_hand=by_hand)
        decision = decide(seen, self._memory, boottime(), self._config)
        if isinstance(decision, PutOnRecord) and self._record is not None:
            logger.info(decision.sentence)
            self._memory = Memory(self._record.put(decision.notice))
            if decision.notice.kind is NoticeKind.ATTACH:
                self._machine = None  # the group may be another one now
            decision = decide(seen, self._memory, boottime(), self._config)
        if isinstance(decision, Start):
            self._start(decision.notice)
        if self._ending is not None and self._memory.running is not None and self._memory.running.ends:
            left = self._memory.running.ends - boottime()
            self._manager.extend(max(0.0, left + LATE_SECONDS) + STOP_SECONDS)
        serving = self._transition is None and self._ending is None
        self._shipping.check(serving and self._is_serving(seen))
        if self._lease is not None and self._machine is not None:
            self._lease.check(self._machine, self._is_registered(serving))
        self._report(decision)
        return decision

    def _is_registered(self, serving: bool) -> bool:
        """Whether a lease of ours is to be renewed: also while a launch waits for the group to ask."""
        transition = self._transition
        if serving or self._ending is not None or transition is None:
            return serving and self._memory.standing.phase in REGISTERED
        about = self._status.read().get("transition") or {}
        done = [each.get("name") for each in about.get("ended", ()) if each.get("outcome") == "done"]
        into = transition.notice.kind in INTO_SERVICE and not transition.notice.into_pool
        return into and about.get("pid") == transition.pid and REGISTER in done

    def _start(self, notice: Notice) -> None:
        self._shipping.stop()
        if self._transition is not None:
            self._transition.stop()  # it gives way to this one, or goes on in less time
        self._transition = Supervisor(notice, self._command)
        self._memory = remade(self._memory, running=notice)

    def _by_hand(self) -> str:
        """What somebody is at by hand; empty where the process has left it in its middle."""
        about = self._status.read().get("transition") or {}
        if about.get("outcome") or not Path(f"/proc/{about.get('pid')}").exists():
            return ""
        return f"{about.get('kind')} is being done by hand: {about.get('sentence')}"

    def _is_serving(self, seen: Observation) -> bool:
        in_service = self._memory.standing.phase in (Phase.NEW, Phase.IN_SERVICE)
        return in_service and seen.target is TargetState.IN_SERVICE

    @staticmethod
    def _make_lease(config: Config) -> Lease | None:
        if config.eureka.register is None:
            return None
        from lifecycle_agent.watch.lease import Lease  # an import that few need

        return Lease(config.eureka)

    def _told_to_end(self) -> None:
        self._manager.stopping()
        self._ending = why_it_ends()

    def _observe(self) -> Observation:
        """What the metadata service says; who we are comes before what is wanted of us."""
        deadline = Deadline.after(OBSERVE_SECONDS)
        if self._machine is None:
            try:
                self._machine = self._metadata.machine(deadline)
            except MetadataUnavailableError as error:
                return Observation(None, error.message, known=False, ending=self._ending)
            self._recall(self._machine)
        return remade(self._metadata.observe(deadline), ending=self._ending)

    def _remember(self, transition: Supervisor) -> Memory:
        """What becomes of the transition; one that has ended is let go."""
        notice, kind = transition.notice, transition.notice.kind.value
        if transition.over:
            self._transition = None
            return self._after(notice, transition.exit_code)
        pause = transition.pause_left()
        if pause is not None:
            told = f"died, starting again in {pause:.0f} s"
        else:
            progress = self._status.read().get("transition") or {}
            ours = progress.get("pid") == transition.pid
            said = progress.get("sentence", "starting") if ours else "starting"
            told = f"since {boottime() - notice.seen_at:.0f} s: {said}"
        return remade(self._memory, running=notice, told=f"{kind} {told}")

    def _after(self, notice: Notice, exit_code: int | None) -> Memory:
        """What is remembered of a transition that has ended."""
        standing, kind = self._memory.standing, notice.kind.value
        if exit_code == GAVE_WAY or self._record is None:
            told = f"{kind} gives way to what is done by hand"
            return Memory(standing, None, told, boottime() + GAVE_WAY_PAUSE, again=notice.kind)
        well = exit_code == DONE
        standing = self._record.ended(notice, Outcome.DONE if well else Outcome.FAILED)
        told = f"{kind}: {'done' if well else 'done, with failures'}; see `lifecycle-agent status`"
        logger.info(told)
        if standing.phase is not Phase.OUT or well:
            self._returns = 0
            return Memory(standing, None, told)
        # A registry that was down must not keep us out of service.
        self._returns += 1
        first, longest = RETURN_PAUSE
        pause = min(longest, first * 2 ** min(self._returns - 1, 16))
        what = "the way back into service" if notice.kind in _BACK else kind
        told = f"{what} has failed, and is tried again"
        return Memory(standing, None, told, boottime() + pause, again=notice.kind)

    def _report(self, decision: Decision) -> None:
        sentence = decision.sentence
        self._manager.report(sentence)
        if sentence == self._sentence:
            return
        self._sentence = sentence
        if self._memory.running is None or isinstance(decision, Start | Leave):
            logger.info(sentence)  # a transition writes its own log
        about: dict[str, Any] = {
            "pid": os.getpid(),
            "version": __version__,
            "sentence": sentence,
            "since": utc(),
        }
        if self._machine is not None:
            about["instance_id"] = self._machine.instance_id
        self._status.update("watcher", about)

    def _pause(self) -> float:
        """Seconds until the next cycle: longer, with jitter, while the metadata service is in trouble."""
        pause = self._config.agent.poll_interval
        if self._problems:
            pause = max(pause, min(LONGEST_PAUSE, pause * 2 ** min(self._problems - 1, 8)))
            pause *= random.uniform(0.75, 1.0)  # noqa: S311
        if self._transition is not None and not self._transition.over:
            pause = min(pause, self._transition.pause_left() or self._config.agent.poll_interval)
        if self._manager.watchdog_seconds is not None:
            pause = min(pause, self._manager.watchdog_seconds / 3)
        return pause

    def _keep(self, config: Config) -> Path | None:
        """Keep the configuration in force: what becomes of its files later must not stop an answer."""
        path = runtime_dir() / "config.json"
        try:
            kept = json.dumps(config.document.as_json() if config.document else None)
            replace(path, kept.encode(), mode=0o600)  # commands may have tokens in their arguments
        except OSError as error:
            logger.warning("the configuration cannot be kept: %s: %s", path, error.strerror)
            return None
        return path

    def _recall(self, machine: Machine) -> None:
        """What was before we started: the last transition, which after a reboot the status does not have."""
        if self._record is not None:
            return  # it is the group that has changed
        self._record = Record(state_dir(self._config.agent.state_dir), machine.instance_id)
        if self._status.read().get("transition"):
            return
        try:
            file = state_dir(self._config.agent.state_dir) / "report.json"
            last = json.loads(read_regular(file, MOST_REPORT))
            if last["instance_id"] != machine.instance_id:
                return  # baked into the image that this machine was made of
            steps = last["steps"]
            shown = {
                "transition_id": last["transition_id"],
                "reason": last["notice"]["reason"],
                "outcome": last["outcome"],
                "steps": [step["name"] for step in steps],
                "ended": steps,
                "step": "",
            }
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return  # there is none, or none of ours
        self._status.update("transition", shown)

    def _command(self, notice: Notice, deaths: int) -> Sequence[str]:
        """The transition's command line: `drain`, as by hand, with the notice already seen."""
        about = {
            "notice": asdict(notice),
            "machine": asdict(self._known()),
            "deaths": deaths,
        }
        return self._ourselves("drain", "--notice", about)

    def _ship_command(self) -> Sequence[str]:
        return self._ourselves("ship", "--seen", {"machine": asdict(self._known())})

    def _ourselves(self, command: str, option: str, about: dict[str, Any]) -> Sequence[str]:
        """A command of ours, told what is known already, and where the configuration in force is."""
        told = json.dumps({**about, "config": str(self._kept) if self._kept else None})
        config = ["--config", str(self._config_path)]
        return [sys.executable, "-m", "lifecycle_agent", *config, command, option, told]

    def _known(self) -> Machine:
        if self._machine is None:
            raise AssertionError("nothing is observed before the machine is known")
        return self._machine

    def _stop(self, sentence: str) -> None:
        self._shipping.stop()
        if self._transition is not None:
            self._transition.stop()
        self._status.update("watcher", {"pid": None, "sentence": sentence, "since": utc()})


def run(config: Config, config_path: Path) -> None:
    """Watch until told to stop."""
    Watcher(config, config_path).run()
