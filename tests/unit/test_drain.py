"""The steps that bring the app to rest."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lifecycle_agent.clients.commands import CommandResult, Waiter
from lifecycle_agent.clients.connections import Connection
from lifecycle_agent.clients.units import Stopped
from lifecycle_agent.config import CommandSection, HttpSection, IdleSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, LifecycleAgentError, StepFailed
from lifecycle_agent.steps.drain import CallApp, RunCommand, StartUnits, StopUnits, WaitIdle


class FakeWork:
    """A clock that only waiting moves, unless told to tell the real time."""

    def __init__(self, seconds: float = 600.0, real: bool = False) -> None:
        self.time = 1000.0
        self.deadline = Deadline.after(seconds) if real else Deadline.after(seconds, clock=lambda: self.time)
        self.said: list[str] = []
        self.interrupted = False
        self._pause = threading.Event()

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self.said.append(text)

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        if self.interrupted:
            raise Interrupted
        self.time = min(self.time + seconds, max(self.time, self.deadline.at))
        self._pause.wait(min(seconds, 0.01))


class FakeCommands:
    def __init__(self, result: CommandResult | LifecycleAgentError) -> None:
        self.result = result
        self.asked: list[tuple[str, tuple[str, ...], str | None, float]] = []

    def run(
        self, name: str, argv: Sequence[str], user: str | None, deadline: Deadline, waiter: Waiter
    ) -> CommandResult:
        self.asked.append((name, tuple(argv), user, deadline.remaining()))
        if isinstance(self.result, LifecycleAgentError):
            raise self.result
        return self.result


def ended(
    exit_code: int | None = 0, signal: int | None = None, timed_out: bool = False, output: str = ""
) -> CommandResult:
    return CommandResult(exit_code, signal, timed_out, output)


class TestRunCommand:
    def test_done(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        commands = FakeCommands(ended(output="one\ntwo"))
        section = CommandSection(argv=("/opt/pause", "-x"), timeout=30.0, user="orders")

        done = RunCommand(section, "t-1.drain.command.1", commands).run(FakeWork())

        assert done.detail == "/opt/pause is done"
        assert done.warnings == ()
        assert commands.asked == [("t-1.drain.command.1", ("/opt/pause", "-x"), "orders", 30.0)]
        assert [record.getMessage() for record in caplog.records] == ["/opt/pause: one", "/opt/pause: two"]

    def test_no_more_time_than_the_step_has(self) -> None:
        commands = FakeCommands(ended())

        RunCommand(CommandSection(argv=("/x",), timeout=30.0), "n", commands).run(FakeWork(seconds=5))

        assert commands.asked == [("n", ("/x",), None, 5.0)]

    @pytest.mark.parametrize(
        ("result", "problem"),
        [
            (ended(3), "/x ended with exit code 3"),
            (ended(None, 9), "/x ended with signal 9"),
            (ended(0, timed_out=True), "/x was killed when its time was up (exit code 0)"),
            (ended(None, 15, timed_out=True), "/x was killed when its time was up (signal 15)"),
            (LifecycleAgentError("cannot run /x: no", "look"), "cannot run /x: no"),
        ],
    )
    def test_a_problem_is_a_warning_or_a_failure(
        self, result: CommandResult | LifecycleAgentError, problem: str
    ) -> None:
        warn, fail = (CommandSection(argv=("/x",), on_failure=what) for what in ("warn", "fail"))

        assert RunCommand(warn, "n", FakeCommands(result)).run(FakeWork()).warnings == (problem,)
        with pytest.raises(StepFailed) as caught:
            RunCommand(fail, "n", FakeCommands(result)).run(FakeWork())
        assert caught.value.message == problem


class App(BaseHTTPRequestHandler):
    """Answers with the status that the path says, or as slowly as it says."""

    asked: list[str]
    over: threading.Event

    def do_POST(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        what = self.path[1:].split("?")[0]
        self.send_response(int(what) if what.isdigit() else 200)
        if what == "302":
            self.send_header("Location", "/200")
        self.end_headers()
        with contextlib.suppress(OSError):
            while what in ("drip", "flood") and not self.over.is_set():
                self.wfile.write(b"." if what == "drip" else b"." * 65536)
                if what == "drip":
                    self.over.wait(0.02)

    def do_PUT(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def app() -> Iterator[HTTPServer]:
    App.asked, App.over = [], threading.Event()
    with HTTPServer(("127.0.0.1", 0), App) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        App.over.set()
        server.shutdown()
        thread.join()


def hook(app: HTTPServer, path: str, **settings: object) -> HttpSection:
    return HttpSection(url=f"http://user:secret@127.0.0.1:{app.server_port}{path}", **settings)  # type: ignore[arg-type]


class TestCallApp:
    def test_a_2xx_is_done(self, app: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

        done = CallApp(hook(app, "/204?token=x", method="PUT")).run(FakeWork(real=True))

        assert done.detail == f"PUT http://127.0.0.1:{app.server_port}/204 answered 204"
        assert App.asked == ["PUT /204?token=x"]

    @pytest.mark.parametrize("status", [302, 404, 500])
    def test_anything_else_is_not(self, app: HTTPServer, status: int) -> None:
        done = CallApp(hook(app, f"/{status}?token=x")).run(FakeWork(real=True))

        assert done.warnings == (f"POST http://127.0.0.1:{app.server_port}/{status} answered {status}",)
        assert App.asked == [f"POST /{status}?token=x"]
        with pytest.raises(StepFailed, match=f"answered {status}"):
            CallApp(hook(app, f"/{status}", on_failure="fail")).run(FakeWork(real=True))

    def test_nobody_there(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            url = "http://127.0.0.1:{1}/pause".format(*nobody.getsockname())
            with pytest.raises(StepFailed, match="no connection"):
                CallApp(HttpSection(url=url, on_failure="fail")).run(FakeWork(real=True))

    def test_an_answer_without_end_is_cut_off(self, app: HTTPServer) -> None:
        assert CallApp(hook(app, "/flood")).run(FakeWork(real=True)).warnings == ()

    def test_an_answer_that_drips_counts_as_late(self, app: HTTPServer) -> None:
        done = CallApp(hook(app, "/drip", timeout=0.3)).run(FakeWork(real=True))

        assert done.warnings == (f"POST http://127.0.0.1:{app.server_port}/drip: no answer within 0.3 s",)

    def test_told_to_stop(self, app: HTTPServer) -> None:
        work = FakeWork(real=True)
        work.interrupted = True

        with pytest.raises(Interrupted):
            CallApp(hook(app, "/drip")).run(work)


class FakeConnections:
    """Connections that end at times of the work's clock."""

    def __init__(self, work: FakeWork, *until: tuple[float, float]) -> None:
        self._work, self._spans = work, until

    def count(self, ports: Collection[int]) -> Counter[Connection]:
        now = self._work.time - 1000.0
        left = sum(since <= now < until for since, until in self._spans)
        return Counter({Connection(8080, "10.0.0.5"): left} if left else {})


class TestWaitIdle:
    section = IdleSection(ports=(8080,), quiet=3.0, timeout=60.0)

    def test_idle_is_zero_for_as_long_as_quiet_says(self) -> None:
        work = FakeWork()

        done = WaitIdle(self.section, FakeConnections(work, (0, 5))).run(work)

        assert done.detail == "idle after 5.0 s, and for 3 s since"
        assert work.time - 1000 == pytest.approx(8, abs=0.25)
        assert work.said == ["1 connection left: 1 from 10.0.0.5 to port 8080", "idle; to stay so for 3 s"]

    def test_a_new_connection_starts_it_over(self) -> None:
        work = FakeWork()

        WaitIdle(self.section, FakeConnections(work, (0, 5), (7, 10))).run(work)

        assert work.time - 1000 == pytest.approx(13, abs=0.25)

    def test_nothing_to_wait_for(self) -> None:
        work = FakeWork()

        WaitIdle(IdleSection(ports=(8080,), quiet=0.0), FakeConnections(work)).run(work)

        assert work.time == 1000

    def test_connections_left_at_the_timeout_are_a_warning(self) -> None:
        work = FakeWork()

        done = WaitIdle(self.section, FakeConnections(work, (0, 999), (0, 999))).run(work)

        assert done.warnings == ("2 connections left: 2 from 10.0.0.5 to port 8080 after 60.0 s",)
        assert done.data == {"connections": 2}
        assert work.time - 1000 == pytest.approx(60, abs=0.25)

    def test_and_so_is_a_pause_too_short(self) -> None:
        work = FakeWork(seconds=10)

        done = WaitIdle(self.section, FakeConnections(work, (0, 8))).run(work)

        assert done.warnings == ("never idle long enough after 10.0 s",)

    def test_tables_that_cannot_be_read_are_a_failure(self) -> None:
        class Broken:
            def count(self, ports: Collection[int]) -> Counter[Connection]:
                raise LifecycleAgentError("cannot read", "hint")

        with pytest.raises(StepFailed, match="cannot read"):
            WaitIdle(self.section, Broken()).run(FakeWork())


class FakeManager:
    def __init__(self, **units: Stopped | LifecycleAgentError) -> None:
        self.units = units
        self.asked: list[tuple[str, float]] = []

    def stop(self, unit: str, deadline: Deadline, waiter: Waiter) -> Stopped:
        self.asked.append((unit, deadline.remaining()))
        result = self.units[unit]
        if isinstance(result, LifecycleAgentError):
            raise result
        return result

    def start(self, unit: str, deadline: Deadline, waiter: Waiter) -> None:
        self.stop(unit, deadline, waiter)


class TestUnits:
    def test_stopped_in_order_and_what_is_odd_is_said(self) -> None:
        manager = FakeManager(a=Stopped(True), b=Stopped(True, killed=True), c=Stopped(False))

        done = StopUnits(("a", "b", "c"), manager, 90.0).run(FakeWork())

        assert manager.asked == [("a", 90.0), ("b", 90.0), ("c", 90.0)]
        assert done.detail == "stopped a, b, c"
        assert done.warnings == ("b did not stop within 90 s and was killed", "c was not running")

    def test_one_that_fails_does_not_keep_the_others_running(self) -> None:
        manager = FakeManager(a=LifecycleAgentError("no a", "hint a"), b=Stopped(True))

        with pytest.raises(StepFailed, match="no a") as caught:
            StopUnits(("a", "b"), manager, 90.0).run(FakeWork())

        assert caught.value.hint == "hint a"
        assert [unit for unit, _ in manager.asked] == ["a", "b"]

    def test_started_in_the_opposite_order(self) -> None:
        manager = FakeManager(a=Stopped(True), b=Stopped(True))

        StartUnits(("a", "b"), manager).run(FakeWork())

        assert [unit for unit, _ in manager.asked] == ["b", "a"]

    def test_one_that_does_not_start_is_a_failure(self) -> None:
        with pytest.raises(StepFailed, match="no a"):
            StartUnits(("a",), FakeManager(a=LifecycleAgentError("no a", "hint"))).run(FakeWork())
