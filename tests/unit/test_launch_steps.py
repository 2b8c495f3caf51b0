"""The steps that prepare a new instance: units are let go, and callers come only once the app is ready."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import pytest

from lifecycle_agent.clients.commands import CommandResult, Waiter
from lifecycle_agent.clients.eureka import RegistryError
from lifecycle_agent.clients.registration import UNKNOWN, UP, Key, Registration
from lifecycle_agent.config import ReadySection, WarmUpSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, LifecycleAgentError, StepFailed
from lifecycle_agent.steps.discovery import Own
from lifecycle_agent.steps.drain import RunCommand
from lifecycle_agent.steps.launch import HeldBack, Ready, ThenStart
from tests.unit.test_discovery import KEY, MACHINE, UP_ORDERS, FakeRegistry, FakeWork
from tests.unit.test_drain import FakeWork as RealWork


class FakeUnits:
    """Units that are up once they were started, or that have the states they are given."""

    def __init__(self, **states: str) -> None:
        self.states = {f"{name}.service": state for name, state in states.items()}
        self.log: list[str] = []
        self.marker: Path | None = None

    def start(self, unit: str, deadline: Deadline, waiter: Waiter) -> None:
        assert self.marker is None or self.marker.exists(), "systemd would have skipped it"
        if unit not in self.states:
            raise LifecycleAgentError(f"systemd knows no unit {unit}", "correct it")
        self.states[unit] = "active"
        self.log.append(unit)

    def active_state(self, unit: str, deadline: Deadline) -> str:
        return self.states.get(unit, "not-found")


class FakeCommands:
    """Each try ends as the next of `results`, the last one again and again; a command takes its time."""

    def __init__(self, *results: CommandResult | LifecycleAgentError, seconds: float = 0.0) -> None:
        self.results = list(results)
        self.seconds = seconds
        self.names: list[str] = []
        self.limits: list[float] = []

    def run(
        self, name: str, argv: Sequence[str], user: str | None, deadline: Deadline, waiter: Waiter
    ) -> CommandResult:
        self.names.append(name)
        self.limits.append(deadline.remaining())
        left = self.seconds
        while left > 0:
            waiter.wait(1.0)
            left -= 1.0
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, LifecycleAgentError):
            raise result
        return result


class LateApp(FakeRegistry):
    """An app that registers some time after it was asked for, and says UP at once."""

    def register(self) -> None:
        self.now[KEY] = UP_ORDERS


def ended(exit_code: int | None = 0, **more: object) -> CommandResult:
    return replace(CommandResult(exit_code, None, False, ""), **more)  # type: ignore[arg-type]


def ready(
    section: ReadySection,
    commands: FakeCommands | None = None,
    units: FakeUnits | None = None,
    registry: FakeRegistry | None = None,
) -> Ready:
    own = Own(registry, MACHINE, None) if registry is not None else None
    return Ready(section, "t-1.launch.ready", commands or FakeCommands(ended()), units or FakeUnits(), own)


class TestThenStart:
    def test_the_marker_is_there_before_the_first_is_started(self, tmp_path: Path) -> None:
        units = FakeUnits(deploy="inactive", web="inactive")
        units.marker = tmp_path / "run" / "launched"

        done = ThenStart(["deploy.service", "web.service"], units, units.marker).run(FakeWork())

        assert units.log == ["deploy.service", "web.service"]
        assert done.detail == "started deploy.service, web.service"

    def test_everybody_may_see_the_marker(self, tmp_path: Path) -> None:
        ThenStart([], FakeUnits(), tmp_path / "launched").run(FakeWork())

        assert (tmp_path / "launched").stat().st_mode & 0o777 == 0o644

    def test_run_again_it_does_no_harm(self, tmp_path: Path) -> None:
        step = ThenStart(["deploy.service"], FakeUnits(deploy="inactive"), tmp_path / "launched")

        assert step.run(FakeWork()) == step.run(FakeWork())

    def test_one_that_there_is_not_is_a_failure(self, tmp_path: Path) -> None:
        units = FakeUnits(web="inactive")
        with pytest.raises(StepFailed, match=r"knows no unit deploy\.service") as caught:
            ThenStart(["deploy.service", "web.service"], units, tmp_path / "launched").run(FakeWork())

        assert caught.value.hint
        assert units.log == []

    def test_a_marker_that_cannot_be_written_is_a_failure(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("a file where a directory has to be")
        units = FakeUnits(deploy="inactive")
        with pytest.raises(StepFailed, match=r"launched: cannot be written") as caught:
            ThenStart(["deploy.service"], units, tmp_path / "run" / "launched").run(FakeWork())

        assert "deploy.service" in caught.value.hint
        assert units.log == []


class TestReady:
    def test_what_is_so_already_is_not_waited_for(self) -> None:
        work = FakeWork()
        section = ReadySection(argv=("/opt/check",), units=("app.service", "web.service"))
        done = ready(section, units=FakeUnits(app="active", web="reloading")).run(work)

        assert done.detail == "ready after 0 s"
        assert work.said == []

    def test_a_unit_is_waited_for_through_whatever_state(self) -> None:
        work, units = FakeWork(), FakeUnits()
        for at, state in ((3, "activating"), (6, "failed"), (9, "inactive"), (12, "active")):
            work.then(at, lambda state=state: units.states.update({"app.service": state}))  # type: ignore[misc]

        done = ready(ReadySection(units=("app.service",)), units=units).run(work)

        words = [
            f"waiting: app.service is {word}" for word in ("not-found", "activating", "failed", "inactive")
        ]
        assert list(dict.fromkeys(work.said)) == words
        assert done.detail == f"ready after {work.waited:.0f} s"
        assert 12 <= work.waited <= 14

    def test_each_try_of_a_command_has_a_name_and_a_limit_of_its_own(self) -> None:
        work, commands = FakeWork(), FakeCommands(ended(1), ended(None, signal=9), ended())
        ready(ReadySection(argv=("/opt/check", "-q")), commands).run(work)

        assert commands.names == [f"t-1.launch.ready.{number}" for number in (1, 2, 3)]
        assert commands.limits == pytest.approx([30.0] * 3)
        assert work.said == [
            "waiting: /opt/check ended with exit code 1",
            "waiting: /opt/check ended with signal 9",
        ]

    def test_a_command_gets_no_more_time_than_there_is(self) -> None:
        commands = FakeCommands(ended())
        ready(ReadySection(argv=("/opt/check",), timeout=300), commands).run(FakeWork(seconds=7))

        assert commands.limits == pytest.approx([7.0])

    def test_how_an_earlier_agents_try_ended_says_nothing_of_now(self) -> None:
        commands = FakeCommands(ended(0, resumed=True), ended(0))
        ready(ReadySection(argv=("/opt/check",)), commands).run(FakeWork())

        assert len(commands.names) == 2

    def test_what_a_command_says_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        failed, other = ended(1, output_tail="no database"), ended(1, output_tail="no queue")
        commands = FakeCommands(failed, failed, failed, other, ended())
        ready(ReadySection(argv=("/opt/check",)), commands).run(FakeWork())

        said = [record.getMessage() for record in caplog.records]
        assert said == ["/opt/check: no database", "/opt/check: no queue"]

    @pytest.mark.parametrize(
        ("result", "reason"),
        [
            (ended(1), "/opt/check ended with exit code 1"),
            (ended(0, timed_out=True), "/opt/check did not end within 30 s"),
            (LifecycleAgentError("cannot run /opt/check: no", "look"), "cannot run /opt/check: no"),
        ],
    )
    def test_at_its_time_it_says_all_that_was_missing(
        self, result: CommandResult | LifecycleAgentError, reason: str
    ) -> None:
        work = FakeWork()
        section = ReadySection(argv=("/opt/check",), units=("app.service", "web.service"), timeout=20)
        with pytest.raises(StepFailed) as caught:
            ready(section, FakeCommands(result), FakeUnits(app="failed", web="active")).run(work)

        assert caught.value.message == f"not ready after {work.waited:.0f} s: app.service is failed; {reason}"
        assert "launch.ready.timeout" in caught.value.hint
        assert 18 <= work.waited <= 20

    def test_all_of_it_at_once(self) -> None:
        """One that was so a moment ago and is not any more has to be so again."""
        work, units = FakeWork(), FakeUnits(app="active", web="inactive")
        work.then(4, lambda: units.states.update({"app.service": "failed", "web.service": "active"}))
        work.then(8, lambda: units.states.update({"app.service": "active"}))

        ready(ReadySection(units=("app.service", "web.service")), units=units).run(work)

        assert 8 <= work.waited <= 10

    def test_rounds_are_soon_at_first_and_rare_later(self) -> None:
        work, units = FakeWork(), FakeUnits()
        at: list[float] = []
        units.active_state = lambda *_: at.append(work.waited) or "failed"  # type: ignore[method-assign, func-returns-value]
        with pytest.raises(StepFailed):
            ready(ReadySection(units=("app.service",), timeout=60), units=units).run(work)

        pauses = [later - earlier for earlier, later in pairwise(at)]
        assert 0.1 <= pauses[0] <= 0.2
        assert all(1.0 <= pause <= 2.0 for pause in pauses[10:])

    def test_told_to_stop(self) -> None:
        work = RealWork()
        work.interrupted = True
        with pytest.raises(Interrupted):
            ready(ReadySection(units=("app.service",))).run(work)


class TestHoldingTheAppBack:
    SECTION = ReadySection(units=("app.service",))

    def later(self, work: FakeWork, at: float = 20) -> FakeUnits:
        units = FakeUnits(app="activating")
        work.then(at, lambda: units.states.update({"app.service": "active"}))
        return units

    def test_one_that_is_up_is_put_out_of_service_at_once(self) -> None:
        work, registry = FakeWork(), FakeRegistry(UP_ORDERS)
        out_at: list[float] = []
        put: Callable[[Key, Deadline], bool] = registry.out_of_service
        registry.out_of_service = lambda *a: out_at.append(work.waited) or put(*a)  # type: ignore[method-assign, func-returns-value]

        done = ready(self.SECTION, units=self.later(work), registry=registry).run(work)

        assert out_at == [0.0]
        assert registry.now[KEY].out_of_service
        assert done.data == {"registrations": [{"app": "ORDERS", "id": "a:1"}]}

    def test_one_that_registers_later_is_found(self) -> None:
        work, registry = FakeWork(), LateApp()
        work.then(7, registry.register)
        seen: list[tuple[float, bool]] = []
        work.then(15, lambda: seen.append((work.waited, registry.now[KEY].out_of_service)))

        ready(self.SECTION, units=self.later(work), registry=registry).run(work)

        assert [out for _, out in seen] == [True]

    def test_one_that_is_up_again_is_put_out_again(self) -> None:
        work, registry = FakeWork(), LateApp(UP_ORDERS)
        work.then(8, registry.register)

        done = ready(self.SECTION, units=self.later(work), registry=registry).run(work)

        assert registry.calls == [("out", KEY)] * 2
        assert done.data == {"registrations": [{"app": "ORDERS", "id": "a:1"}]}

    @pytest.mark.parametrize("word", ["STARTING", "DOWN", "OUT_OF_SERVICE", UNKNOWN])
    def test_what_callers_do_not_find_is_left_alone(self, word: str) -> None:
        work, registry = FakeWork(), FakeRegistry(replace(UP_ORDERS, status=word))
        done = ready(self.SECTION, units=self.later(work), registry=registry).run(work)

        assert registry.calls == []
        assert done.data == {"registrations": []}

    def test_a_ready_app_is_held_until_somebody_says_otherwise(self) -> None:
        """That is `BackInService`, once it is on record that it is ready."""
        registry = FakeRegistry(UP_ORDERS)
        ready(self.SECTION, units=FakeUnits(app="active"), registry=registry).run(FakeWork())

        assert registry.now[KEY].out_of_service

    def test_while_a_command_runs_too(self) -> None:
        work, registry = FakeWork(), LateApp()
        work.then(3, registry.register)
        commands = FakeCommands(ended(0), seconds=12)
        ready(ReadySection(argv=("/opt/check",)), commands, registry=registry).run(work)

        assert len(commands.names) == 1
        assert registry.now[KEY].out_of_service

    def test_while_it_is_warmed_up_and_deployed_too(self, tmp_path: Path) -> None:
        work, registry = FakeWork(), LateApp()
        work.then(3, registry.register)
        own, section = Own(registry, MACHINE, None), WarmUpSection(argv=("/opt/warm-up",))
        step = RunCommand(section, "t-1.launch.command.1", FakeCommands(ended(0), seconds=12))

        assert HeldBack(step, own).run(work).detail == "/opt/warm-up is done"
        assert registry.now[KEY].out_of_service
        assert work.said == ["running /opt/warm-up"]

        registry.register()
        units = FakeUnits(deploy="inactive")
        HeldBack(ThenStart(["deploy.service"], units, tmp_path / "launched"), own).run(work)
        assert registry.now[KEY].out_of_service
        assert units.log == ["deploy.service"]

    def test_trouble_with_the_registry_is_said_and_no_failure(self) -> None:
        work, registry = FakeWork(), FakeRegistry(UP_ORDERS)
        registry.error = RegistryError("eureka is down", "start it")
        work.then(8, lambda: setattr(registry, "error", None))

        ready(self.SECTION, units=self.later(work), registry=registry).run(work)

        assert "waiting: app.service is activating; the registry does not answer: eureka is down" in work.said
        assert work.said[-1] == "waiting: app.service is activating"
        assert registry.now[KEY].out_of_service

    def test_without_an_app_that_is_ready_it_stays_out_of_service(self) -> None:
        registry = FakeRegistry(UP_ORDERS, Registration("ORDERS", "b:2", status=UP))
        with pytest.raises(StepFailed):
            ready(self.SECTION, units=FakeUnits(app="failed"), registry=registry).run(FakeWork())

        assert all(each.out_of_service for each in registry.now.values())


class App(BaseHTTPRequestHandler):
    """Answers its health check with the statuses that it is given, one after the other, then 200."""

    statuses: list[int]
    over: threading.Event

    def do_GET(self) -> None:
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 0:
            self.over.wait(60)
            return
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def app() -> Iterator[HTTPServer]:
    App.statuses, App.over = [], threading.Event()
    with HTTPServer(("127.0.0.1", 0), App) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        App.over.set()
        server.shutdown()
        thread.join()


class TestHealth:
    def section(self, app: HTTPServer, **more: float) -> ReadySection:
        return ReadySection(url=f"http://127.0.0.1:{app.server_port}/health?token=secret", **more)  # type: ignore[arg-type]

    def test_a_2xx_is_ready_and_nothing_else(self, app: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        App.statuses = [503, 404, 302, 204]
        work = RealWork(seconds=60, real=True)

        ready(self.section(app)).run(work)

        where = f"GET http://127.0.0.1:{app.server_port}/health"
        assert work.said == [f"waiting: {where} answered {status}" for status in (503, 404, 302)]

    def test_nobody_there_and_one_that_hangs(self, app: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lifecycle_agent.steps.launch.TRY_URL", 0.3)
        App.statuses = [0]
        with pytest.raises(StepFailed, match=r"/health: no answer within 0\.3 s|/health answered") as caught:
            ready(self.section(app, timeout=0.4)).run(RealWork(seconds=60, real=True))

        assert "secret" not in str(caught.value)

    def test_nobody_listens(self) -> None:
        section = ReadySection(url="http://127.0.0.1:1/health", timeout=1)
        with pytest.raises(StepFailed, match="no connection"):
            ready(section).run(RealWork(seconds=60, real=True))
