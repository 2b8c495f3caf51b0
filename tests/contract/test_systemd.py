"""Commands, units and the journal against a real systemd, booted as PID 1 in a container.

What `Commands` promises is one set of cases, run on process groups here and on transient units there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine.box import AGENT, Box
from tests.machine.container import LIMIT, wait_for

pytestmark = [pytest.mark.machine, pytest.mark.timeout(400)]  # the first one makes the machine

# One call in a process of its own, so that it can be killed: its answer is a line of JSON.
DRIVER = """
import dataclasses, json, signal, sys, time
sys.path.insert(0, sys.argv[1])
from lifecycle_agent.clients.here import commands_here
from lifecycle_agent.clients.process_group import ProcessGroups
from lifecycle_agent.clients.units import Units
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, LifecycleAgentError

stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))

class Waiter:
    def wait(self, seconds):
        time.sleep(seconds)
        if stopped:
            raise Interrupted

kind, method, arguments, seconds, *before = json.loads(sys.argv[2])
client = {"group": ProcessGroups, "here": commands_here, "units": Units}[kind]()
if seconds is not None:
    arguments += [Deadline.after(seconds), Waiter()]
elif any(before):
    arguments += [Deadline.after(before[0])]
try:
    answer = getattr(client, method)(*arguments)
    answer = dataclasses.asdict(answer) if dataclasses.is_dataclass(answer) else {"answer": answer}
except LifecycleAgentError as error:
    answer = {"error": error.message, "hint": error.hint}
except Interrupted:
    answer = {"interrupted": True}
print(json.dumps(answer | {"client": type(client).__name__}))
"""


# The journal of one unit, as it comes.
EXPORT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from lifecycle_agent.clients.journald import JournalExport
from lifecycle_agent.deadline import Deadline

unit, since, form = json.loads(sys.argv[2])
export = JournalExport(unit, Deadline.after(60), since, form)
for data in iter(lambda: export.read(65536), b""):
    sys.stdout.buffer.write(data)
export.close()
"""


def booted(directory: Path) -> Box:
    """A machine in which the checkout is /agent."""
    box = Box(directory, binds={"/agent:ro": AGENT})
    try:
        box.boot()
        box.wait_until_up()
    except BaseException:
        box.close()
        raise
    return box


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with booted(tmp_path_factory.mktemp("machine")) as machine:
        yield machine


class Place:
    """Where commands run: `files` here is what a command sees as `seen`."""

    def __init__(self, kind: str, files: Path, machine: Box | None) -> None:
        self.kind, self.files, self.machine = kind, files, machine
        self.seen = f"/shared/{files.name}" if machine else str(files)
        self.name = f"{uuid.uuid4().hex}/drain.command.1"  # unique on this machine; escaping included
        self.sleep = f"3600.{uuid.uuid4().int % 10**9:09d}"  # seconds nobody else sleeps
        self.resumes = machine is not None

    def start(
        self, method: str, *arguments: Any, seconds: float | None = LIMIT, before: float | None = None
    ) -> subprocess.Popen[str]:
        call = json.dumps([self.kind, method, arguments, seconds, before])
        if self.machine:
            argv = self.machine.argv("python3", "-B", "-c", DRIVER, "/agent", call)
        else:
            argv = [sys.executable, "-c", DRIVER, str(AGENT), call]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def begin(self, *argv: str, user: str | None = None, seconds: float = LIMIT) -> subprocess.Popen[str]:
        return self.start("run", self.name, argv, user, seconds=seconds)

    def run(self, *argv: str, user: str | None = None, seconds: float = LIMIT) -> dict[str, Any]:
        return answer(self.begin(*argv, user=user, seconds=seconds))

    def sh(self, script: str, user: str | None = None, seconds: float = LIMIT) -> dict[str, Any]:
        return self.run("/bin/sh", "-c", script, user=user, seconds=seconds)

    def signal(self, driver: subprocess.Popen[str], number: int) -> None:
        """Send a signal to the driver itself: in the machine it is nsenter's child."""
        pid = driver.pid
        if self.machine:
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        os.kill(pid, number)

    def sleepers(self) -> list[int]:
        """Processes with this place's own sleep in their arguments, in the machine or not."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if path.read_bytes().endswith(f"sleep\0{self.sleep}\0".encode()):
                    found.append(int(path.parent.name))
        return found

    def runs(self) -> int:
        ran = self.files / "ran"
        return len(ran.read_text().splitlines()) if ran.exists() else 0


def answer(driver: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = driver.communicate(timeout=LIMIT)
    assert driver.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.fixture(params=["process group", pytest.param("transient unit", marks=pytest.mark.once)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "process group":
        place = Place("group", tmp_path, None)
    else:
        machine: Box = request.getfixturevalue("machine")
        files = machine.shared / uuid.uuid4().hex
        files.mkdir()
        place = Place("here", files, machine)
    yield place
    for pid in place.sleepers():
        os.kill(pid, signal.SIGKILL)


class TestCommands:
    def test_exit_code_and_output(self, place: Place) -> None:
        result = place.sh("echo to stdout; echo to stderr >&2; exit 3")

        assert result["client"] == ("TransientUnits" if place.machine else "ProcessGroups")
        assert (result["exit_code"], result["signal"], result["timed_out"]) == (3, None, False)
        assert result["output_tail"] == "to stdout\nto stderr"
        assert result["resumed"] is False

    def test_a_signal(self, place: Place) -> None:
        result = place.sh("kill -9 $$")

        assert (result["exit_code"], result["signal"], result["timed_out"]) == (None, 9, False)

    def test_arguments_arrive_as_they_are(self, place: Place) -> None:
        words = ["$HOME", "${HOME}", "$$", "%h", "%%", "a b", '"', "'", "\\x20", "", "-p", "ü", ";"]

        result = place.run("/usr/bin/printf", "<%s>\n", *words)

        assert result["output_tail"].splitlines() == [f"<{word}>" for word in words]

    def test_only_the_end_of_the_output_is_kept(self, place: Place) -> None:
        result = place.sh("seq 5000")

        assert result["output_tail"].splitlines() == [str(number) for number in range(4901, 5001)]

    def test_surroundings(self, place: Place) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can run a command as another user")
        result = place.sh("pwd; cat; id -u; id -G; echo $USER", user="nobody")

        assert result["output_tail"].splitlines() == ["/", "65534", "65534", "nobody"]

    def test_no_such_program(self, place: Place) -> None:
        result = place.run("/no/such/program")

        assert "/no/such/program" in result["error"]

    def test_no_program(self, place: Place) -> None:
        assert "/etc/passwd" in place.run("/etc/passwd")["error"]

    def test_no_such_user(self, place: Place) -> None:
        assert "nobody-here" in place.run("/bin/true", user="nobody-here")["error"]

    def test_killed_whole_at_the_timeout(self, place: Place) -> None:
        script = (
            f"trap '' TERM; sleep {place.sleep} & setsid sleep {place.sleep} & sleep {place.sleep}; exit 0"
        )

        result = place.sh(script, seconds=1.5)

        assert result["timed_out"] is True
        assert place.sleepers() == []

    def test_time_to_clean_up_before_the_timeout(self, place: Place) -> None:
        script = f"trap 'echo cleaned up; exit 7' TERM; sleep {place.sleep} & wait"

        result = place.sh(script, seconds=3)

        assert (result["timed_out"], result["output_tail"]) == (True, "cleaned up")
        assert result["exit_code"] == 7

    def test_what_a_command_leaves_running_ends_with_it(self, place: Place) -> None:
        result = place.sh(f"sleep {place.sleep} & setsid sleep {place.sleep} & exit 0")

        assert result["exit_code"] == 0
        assert place.sleepers() == []

    def test_a_daemon_that_holds_the_output_does_not_hold_us(self, place: Place) -> None:
        result = place.sh(f"env -i setsid sleep {place.sleep} & echo started")

        assert (result["exit_code"], result["output_tail"]) == (0, "started")

    def test_killed_and_run_again_it_never_runs_twice_at_once(self, place: Place) -> None:
        until_go = f"until test -e {place.seen}/go; do sleep 0.1; done"
        script = f"echo >>{place.seen}/ran; sleep {place.sleep} & {until_go}; echo end"
        first = place.begin("/bin/sh", "-c", script)
        wait_for(lambda: place.runs() == 1 and place.sleepers(), "the command to start")
        place.signal(first, signal.SIGKILL)
        first.communicate(timeout=LIMIT)
        old = place.sleepers()
        assert len(old) == 1

        second = place.begin("/bin/sh", "-c", script)
        if not place.resumes:
            wait_for(lambda: place.runs() == 2 and set(place.sleepers()) - set(old), "it to start again")
            assert len(place.sleepers()) == 1
        (place.files / "go").touch()
        result = answer(second)

        assert place.runs() == (1 if place.resumes else 2)
        assert result["resumed"] is place.resumes
        assert (result["exit_code"], result["output_tail"]) == (0, "end")

    def test_told_to_stop(self, place: Place) -> None:
        """A transient unit goes on by itself; a process group has nobody to look after it."""
        driver = place.begin("/bin/sh", "-c", f"echo >>{place.seen}/ran; exec sleep {place.sleep}")
        wait_for(place.sleepers, "the command to start")

        place.signal(driver, signal.SIGTERM)

        assert answer(driver)["interrupted"] is True
        assert len(place.sleepers()) == (1 if place.resumes else 0)


@pytest.mark.once
class TestTransientUnits:
    @pytest.fixture
    def there(self, machine: Box) -> Place:
        files = machine.shared / uuid.uuid4().hex
        files.mkdir()
        return Place("here", files, machine)

    def test_one_that_ended_while_nobody_looked_keeps_its_result(self, there: Place) -> None:
        until_go = f"until test -e {there.seen}/go; do sleep 0.1; done"
        script = f"echo >>{there.seen}/ran; {until_go}; echo end; touch {there.seen}/end; exit 5"
        first = there.begin("/bin/sh", "-c", script)
        wait_for(there.runs, "the command to start")
        there.signal(first, signal.SIGKILL)
        first.communicate(timeout=LIMIT)
        (there.files / "go").touch()
        wait_for((there.files / "end").exists, "the command to end")

        result = there.run("/bin/sh", "-c", script)

        assert (result["exit_code"], result["output_tail"], result["resumed"]) == (5, "end", True)
        assert there.runs() == 1

    def test_systemd_keeps_the_time_while_nobody_looks(self, there: Place) -> None:
        first = there.begin("/usr/bin/sleep", there.sleep, seconds=3)
        wait_for(there.sleepers, "the command to start")
        there.signal(first, signal.SIGKILL)
        first.communicate(timeout=LIMIT)
        wait_for(lambda: not there.sleepers(), "systemd to end it")

        result = there.run("/usr/bin/sleep", there.sleep)

        assert (result["timed_out"], result["resumed"]) == (True, True)

    def test_nothing_is_left_of_it(self, there: Place) -> None:
        assert there.machine
        there.sh("exit 1")
        there.sh("exit 0")

        listed = there.machine.call(
            "systemctl", "list-units", "--all", "--plain", "--no-legend", "lifecycle-agent-*"
        )
        assert there.name.partition("/")[0] not in listed.stdout


def service(start: str, *lines: str) -> str:
    return "\n".join(["[Service]", f"ExecStart={start}", *lines, ""])


@pytest.mark.once
class TestUnits:
    @pytest.fixture
    def units(self, machine: Box) -> Place:
        files = machine.shared / uuid.uuid4().hex
        files.mkdir()
        place = Place("units", files, machine)
        machine.unit("app.service", service(f"/usr/bin/sleep {place.sleep}", "Restart=always"))
        return place

    def ask(
        self,
        units: Place,
        method: str,
        *arguments: Any,
        seconds: float | None = LIMIT,
        before: float | None = None,
    ) -> dict[str, Any]:
        """One call: with a deadline and a waiter, unless `seconds` is None; `before` is a deadline alone."""
        return answer(units.start(method, *arguments, seconds=seconds, before=before))

    def test_start_and_stop(self, units: Place) -> None:
        assert self.ask(units, "start", "app.service")["answer"] is None
        assert self.ask(units, "is_active", "app.service", seconds=None)["answer"] is True
        assert units.sleepers()

        stopped = self.ask(units, "stop", "app.service")

        assert (stopped["was_active"], stopped["killed"]) == (True, False)
        assert units.sleepers() == []
        assert self.ask(units, "is_active", "app.service", seconds=None)["answer"] is False

    def test_stop_one_that_does_not_run(self, units: Place) -> None:
        stopped = self.ask(units, "stop", "app.service")

        assert (stopped["was_active"], stopped["killed"]) == (False, False)

    def test_one_that_ignores_sigterm_is_killed_in_time(self, units: Place) -> None:
        assert units.machine
        script = f"/bin/sh -c \"trap '' TERM; echo >{units.seen}; while :; do sleep {units.sleep}; done\""
        units.machine.unit("stubborn.service", service(script, "TimeoutStopSec=1h"))
        self.ask(units, "start", "stubborn.service")
        wait_for(units.sleepers, "the trap to be set")

        stopped = self.ask(units, "stop", "stubborn.service", seconds=2)

        assert (stopped["was_active"], stopped["killed"]) == (True, True)
        assert units.sleepers() == []

    def test_no_such_unit(self, units: Place) -> None:
        for method in ("start", "stop"):
            assert "no unit nothing.service" in self.ask(units, method, "nothing.service")["error"]

    def test_one_that_cannot_start(self, units: Place) -> None:
        assert units.machine
        units.machine.unit("broken.service", service("/bin/false", "Type=oneshot"))

        said = self.ask(units, "start", "broken.service")

        assert "broken.service did not start" in said["error"]

    def test_what_state_a_unit_is_in(self, units: Place) -> None:
        assert units.machine
        units.machine.unit("failing.service", service("/bin/false"))
        units.machine.unit("slow.service", service(f"/usr/bin/sleep {units.sleep}", "Type=oneshot"))

        def state(unit: str) -> str:
            said: str = self.ask(units, "active_state", unit, seconds=None, before=LIMIT)["answer"]
            return said

        assert [state("app.service"), state("nothing.service")] == ["inactive", "not-found"]
        self.ask(units, "start", "app.service")
        units.machine.check("systemctl", "start", "--no-block", "slow.service")
        units.machine.call("systemctl", "start", "failing.service")
        wait_for(lambda: state("failing.service") == "failed", "it to fail")
        wait_for(lambda: state("slow.service") == "activating", "it to be started")
        assert state("app.service") == "active"

        units.machine.check("systemctl", "kill", "slow.service")
        self.ask(units, "stop", "app.service")

    @pytest.mark.parametrize("known", [True, False], ids=["known to another", "forgotten once ended"])
    def test_a_oneshot_is_up_when_it_has_ended_well(self, units: Place, known: bool) -> None:
        assert units.machine
        name = f"once-{uuid.uuid4().hex}.service"
        command = f'/bin/sh -c "sleep 0.3; echo >>{units.seen}/ran"'
        install = ["[Install]", "WantedBy=multi-user.target"] if known else []
        units.machine.unit(name, service(command, "Type=oneshot", *install))
        if known:
            units.machine.check("systemctl", "enable", name)

        for count in (1, 2):
            assert self.ask(units, "start", name)["answer"] is None
            assert units.runs() == count

    def test_one_that_is_held_back_is_not_up_until_it_is_let_go(self, units: Place) -> None:
        assert units.machine
        for kind in ("oneshot", "exec"):
            name, marker = f"held-{kind}-{uuid.uuid4().hex}.service", f"/run/{uuid.uuid4().hex}"
            command = "/bin/true" if kind == "oneshot" else f"/usr/bin/sleep {units.sleep}"
            held = f"[Unit]\nConditionPathExists={marker}\n"
            install = ("[Install]", "WantedBy=multi-user.target")
            units.machine.unit(name, held + service(command, f"Type={kind}", *install))
            units.machine.check("systemctl", "enable", name)

            said = self.ask(units, "start", name)
            units.machine.check("touch", marker)
            after = self.ask(units, "start", name)

            assert said["error"] == f"{name} was skipped: a condition of the unit is not met"
            assert after["answer"] is None

    def test_one_whose_requirement_fails_is_not_taken_for_one_that_ran_before(self, units: Place) -> None:
        assert units.machine
        name, needed = (f"{word}-{uuid.uuid4().hex}.service" for word in ("once", "needed"))
        units.machine.unit(needed, service(f"/usr/bin/test ! -e {units.seen}/broken", "Type=oneshot"))
        about = f"[Unit]\nRequires={needed}\nAfter={needed}\n"
        units.machine.unit(
            name, about + service("/bin/true", "Type=oneshot", "[Install]", "WantedBy=multi-user.target")
        )
        units.machine.check("systemctl", "enable", name)
        assert self.ask(units, "start", name)["answer"] is None

        (units.files / "broken").touch()

        assert "did not start" in self.ask(units, "start", name)["error"]

    def test_a_machine_that_runs(self, units: Place) -> None:
        assert self.ask(units, "manager_stopping", seconds=None)["answer"] is False


# journalctl leaves out of its JSON what is longer than 4096 bytes, if it may.
SAID = ("one", "größer", "x" * 10_000)


@pytest.fixture(scope="module")
def talker(machine: Box) -> Box:
    """The machine, and a unit in it that has said something."""
    (machine.shared / "said").write_text("\n".join([*SAID, ""]))
    machine.unit("talker.service", service("/bin/cat /shared/said", "Type=oneshot"))
    assert machine.call("systemctl", "start", "talker.service").returncode == 0
    assert machine.call("journalctl", "--sync").returncode == 0
    return machine


@pytest.mark.once
class TestJournal:
    def read(self, machine: Box, unit: str, since: float | None, form: str) -> bytes:
        argv = machine.argv("python3", "-B", "-c", EXPORT, "/agent", json.dumps([unit, since, form]))
        return subprocess.run(argv, capture_output=True, timeout=LIMIT, check=True).stdout

    @pytest.mark.parametrize("since", [None, 3600], ids=["boot", "an hour"])
    def test_as_json(self, talker: Box, since: float | None) -> None:
        lines = self.read(talker, "talker.service", since, "json").splitlines()

        entries = [json.loads(line) for line in lines]
        said = [entry["MESSAGE"] for entry in entries if entry["_PID"] != "1"]
        assert said == list(SAID)
        assert {entry["SYSLOG_IDENTIFIER"] for entry in entries} == {"cat", "systemd"}

    @pytest.mark.parametrize("since", [None, 3600], ids=["boot", "an hour"])
    def test_as_export(self, talker: Box, since: float | None) -> None:
        data = self.read(talker, "talker.service", since, "export")

        for text in SAID:
            assert f"\nMESSAGE={text}\n".encode() in data
        assert all(entry.startswith(b"__CURSOR=") for entry in data.rstrip(b"\n").split(b"\n\n"))

    def test_another_units_and_an_older_one_are_not_in_it(self, talker: Box) -> None:
        assert self.read(talker, "nothing.service", None, "json") == b""
        assert self.read(talker, "talker.service", -3600, "json") == b""


@pytest.mark.once
def test_while_the_machine_shuts_down(tmp_path: Path) -> None:
    """Commands and units from inside a sandboxed service that is ordered after the app, as the agent is."""
    sleep = f"3600.{uuid.uuid4().int % 10**9:09d}"
    calls: tuple[tuple[str, list[Any]], ...] = (
        ("stopping", ["units", "manager_stopping", [], None]),
        ("command", ["here", "run", ["a/b", ["/bin/sh", "-c", "echo said; exit 4"], "nobody"], 20]),
        ("late", ["here", "run", ["late", ["/bin/sleep", sleep], None], 1]),
        ("stop", ["units", "stop", ["app.service"], 20]),
        ("after", ["units", "is_active", ["app.service"], None]),
    )
    lines = [
        f"python3 -B /shared/driver.py /agent '{json.dumps(call)}' >/shared/{name} 2>&1"
        for name, call in calls
    ]
    with booted(tmp_path) as machine:
        (machine.shared / "driver.py").write_text(DRIVER)
        (machine.shared / "stop.sh").write_text("\n".join(lines))
        machine.unit("app.service", service(f"/usr/bin/sleep {sleep}", "Restart=always"))
        sandbox = (
            "Type=oneshot", "RemainAfterExit=yes", "ExecStop=/bin/sh /shared/stop.sh", "TimeoutStopSec=60",
            "CapabilityBoundingSet=CAP_DAC_READ_SEARCH", "NoNewPrivileges=yes", "ProtectSystem=strict",
            "ReadWritePaths=/shared", "PrivateDevices=yes", "ProtectControlGroups=yes",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "SystemCallFilter=@system-service",
        )  # fmt: skip
        machine.unit(
            "agent.service", "[Unit]\nAfter=app.service\nWants=app.service\n" + service("/bin/true", *sandbox)
        )
        machine.check("systemctl", "start", "agent.service")

        machine.power_off()

    said = {name: (machine.shared / name).read_text() for name, _ in calls}
    answers = {name: json.loads(text) for name, text in said.items() if text.startswith("{")}
    assert set(answers) == set(said), said
    assert answers["stopping"]["answer"] is True
    command, late = answers["command"], answers["late"]
    assert (command["exit_code"], command["client"]) == (4, "TransientUnits")
    # The journal does not always know whose a line is by then: who said it is gone, and its unit on the way.
    assert command["output_tail"] in ("said", "")
    assert late["timed_out"] is True
    assert (answers["stop"]["was_active"], answers["stop"]["killed"]) == (True, False)
    assert answers["after"]["answer"] is False
