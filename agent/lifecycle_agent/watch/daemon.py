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
from pathlib import Path
from typing import Any

from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline, boottime
from lifecycle_agent.errors import MetadataUnavailableError
from lifecycle_agent.files import StatusFile, read_regular, replace, runtime_dir, state_dir
from lifecycle_agent.logline import logger, utc
from lifecycle_agent.model import Machine, Notice, Observation, TargetState
from lifecycle_agent.watch.decide import Memory, Phase, Start, Stay, decide
from lifecycle_agent.watch.imds import OBSERVE_SECONDS, MetadataClient
from lifecycle_agent.watch.ship import Shipping
from lifecycle_agent.watch.supervisor import DONE, Supervisor
from lifecycle_agent.watch.systemd import Manager

# What the group wants stands in the metadata until it is done, so asking late only delays; a fleet
# that asks a throttled service more often makes it worse.
LONGEST_PAUSE = 15.0

MOST_REPORT = 1024 * 1024  # bytes; a report is some 10 KiB


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
        self._metadata = MetadataClient()
        self._manager = Manager()
        self._signals = Signals()
        self._status = StatusFile(runtime_dir())
        self._machine: Machine | None = None
        self._memory = Memory()
        self._transition: Supervisor | None = None
        logs = config.logs if config.logs and config.logs.ship == "closed" else None
        self._shipping = Shipping(logs.ship_interval if logs else None, self._ship_command)
        self._problems = 0
        self._sentence = ""
        self._kept = self._keep(config)
        self._recall(config)

    def run(self) -> None:
        """Cycle until told to stop (SIGTERM, SIGINT)."""
        self._manager.ready()
        while True:
            self._cycle()
            arrived = self._signals.wait(self._pause())
            if arrived & {signal.SIGTERM, signal.SIGINT}:
                break
        self._stop()

    def _cycle(self) -> None:
        seen = self._observe()
        self._problems = self._problems + 1 if seen.problem else 0
        if self._transition is not None:
            self._transition.check()
            self._memory = self._remember(self._transition)
        decision = decide(seen, self._memory, boottime())
        if isinstance(decision, Start):
            self._shipping.stop()
            self._transition = Supervisor(decision.notice, self._command)
            self._memory = Memory(Phase.IN_TRANSITION)
        in_service = self._memory.phase is Phase.WATCHING and seen.target is TargetState.IN_SERVICE
        self._shipping.check(in_service)
        self._report(decision)

    def _observe(self) -> Observation:
        """What the metadata service says; who we are comes before what is wanted of us."""
        deadline = Deadline.after(OBSERVE_SECONDS)
        if self._machine is None:
            try:
                self._machine = self._metadata.machine(deadline)
            except MetadataUnavailableError as error:
                return Observation(None, error.message)
        return self._metadata.observe(deadline)

    def _remember(self, transition: Supervisor) -> Memory:
        kind = transition.notice.kind.value
        if transition.over:
            how = "done" if transition.exit_code == DONE else "done, with failures"
            return Memory(Phase.OVER, f"{kind}: {how}; see `lifecycle-agent status`")
        pause = transition.pause_left()
        if pause is not None:
            return Memory(Phase.IN_TRANSITION, f"{kind}: died, starting again in {pause:.0f} s")
        progress = self._status.read().get("transition") or {}
        since = boottime() - transition.notice.seen_at
        told = progress.get("sentence", "starting") if progress.get("pid") == transition.pid else "starting"
        return Memory(Phase.IN_TRANSITION, f"{kind} since {since:.0f} s: {told}")

    def _report(self, decision: Start | Stay) -> None:
        sentence = decision.sentence
        self._manager.report(sentence)
        if sentence == self._sentence:
            return
        self._sentence = sentence
        if self._memory.phase is not Phase.IN_TRANSITION or isinstance(decision, Start):
            logger.info(sentence)  # a transition writes its own log
        about: dict[str, Any] = {"pid": os.getpid(), "sentence": sentence, "since": utc()}
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

    def _recall(self, config: Config) -> None:
        """After a reboot the status is empty: show the last transition as its report has it."""
        if self._status.read().get("transition"):
            return
        try:
            last = json.loads(read_regular(state_dir(config.agent.state_dir) / "report.json", MOST_REPORT))
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
        about = {"notice": asdict(notice), "machine": asdict(self._known()), "deaths": deaths}
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

    def _stop(self) -> None:
        self._manager.stopping()
        self._shipping.stop()
        if self._transition is not None and not self._transition.over:
            self._transition.stop()
            logger.warning("stopped in the middle of a transition; it goes on when the agent starts again")
        self._status.update("watcher", {"pid": None, "sentence": "stopped", "since": utc()})
        logger.info("stopped; the app is left as it is")


def run(config: Config, config_path: Path) -> None:
    """Watch until told to stop."""
    Watcher(config, config_path).run()
