"""The main job with everything configured: what it is told, what it leaves behind, what others saw of it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from werkzeug.wrappers import Response

from lifecycle_agent.deadline import boottime
from lifecycle_agent.model import ActionResult, LifecycleTransition, Machine, Notice, NoticeKind
from lifecycle_agent.rehearsal.http import Served
from lifecycle_agent.rehearsal.proof import Bucket
from tests.stage import ADDRESS, HOOK, INSTANCE, PATIENCE, Stage

REGISTRATION = "orders:1"
GROUP = "rehearsal"


class Job(Stage):
    """A stage with a bucket, logs, two commands that leave a line each, an HTTP hook, somebody to tell."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.called: Counter[str] = Counter()  # requests by path: the app's hook, and the notices
        self.bucket = Bucket(self.group.url, f"logs-{uuid.uuid4()}")  # all groups here share one S3
        self.commands = directory / "commands"
        self._app = Served(self._answer)
        self._quiet_port = socket.socket()

    def __enter__(self) -> Job:
        super().__enter__()
        self._stack.enter_context(self._app)
        self._stack.enter_context(self._quiet_port)
        self._quiet_port.bind(("127.0.0.1", 0))  # nobody can be connected to it
        self.bucket.create()
        (self.directory / "logs").mkdir()
        (self.directory / "logs" / "orders.log").write_text("the last order\n" * 1000)
        (self.directory / "webhook-url").write_text(f"{self._app.url}/notice\n")
        self.configure_all()
        return self

    def configure_all(self, more: str = "", timeout: str = "60s", settle: str = "300ms") -> None:
        """Write a configuration that has every step, and `more` below [hooks]."""
        commands = "\n".join(
            f'[[drain.command]]\nargv = ["/bin/sh", "-c", "echo {word} >> {self.commands}"]'
            for word in ("one", "two")
        )
        self.configure(
            settle=settle,
            text=f"""
            [hooks]
            terminate = "{HOOK}"
            {more}
            [drain]
            timeout = "{timeout}"
            [drain.idle]
            ports = [{self._quiet_port.getsockname()[1]}]
            quiet = "0s"
            {commands}
            [[drain.http]]
            url = "{self._app.url}/pause"
            [logs]
            bucket = "{self.bucket.name}"
            paths = ["{self.directory}/logs/*.log"]
            [[notify]]
            kind = "webhook"
            url_file = "{self.directory}/webhook-url"
            """,
        )

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.called[environ["PATH_INFO"]] += 1
        return Response("ok")(environ, start_response)

    # -- doing it

    def seen(self) -> Notice:
        """The group takes the instance away, and the watcher has just seen it."""
        if "Terminat" not in self.group.state(INSTANCE):
            self.group.terminate(INSTANCE)
        return Notice(NoticeKind.TERMINATE, "scale-in", boottime(), LifecycleTransition.TERMINATING)

    def transition_of(self, notice: Notice, deaths: int = 0) -> list[str]:
        """What the watcher calls for a notice, behind the program's name."""
        machine = Machine(INSTANCE, "us-east-1", (ADDRESS,), ("ip-10-0-0-7",), GROUP)
        told = json.dumps({"notice": asdict(notice), "machine": asdict(machine), "deaths": deaths})
        return ["--config", str(self.config_path), "drain", "--notice", told]

    def run(
        self, *arguments: str, program: tuple[str, ...] = ("-m", "lifecycle_agent"), **environ: str
    ) -> Ran:
        """Run the command line to its end."""
        ran = subprocess.run(
            [sys.executable, *program, *arguments],
            env=self.environ(**environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def by_hand(self, *arguments: str, **environ: str) -> Ran:
        """Run a command as a person would."""
        program = ("-m", "lifecycle_agent", "--config", str(self.config_path))
        return self.run(*arguments, program=program, **environ)

    # -- what came of it

    def journal(self) -> list[dict[str, Any]]:
        """Its lines."""
        try:
            text = (self.directory / "state" / "journal.jsonl").read_text()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind("\n") + 1]  # the last one may be on its way
        return [json.loads(line) for line in whole.splitlines()]

    def boundaries(self) -> list[str]:
        """The journal's lines in short."""
        return [boundary(line) for line in self.journal()]

    def report(self) -> dict[str, Any]:
        """The last transition's."""
        document: dict[str, Any] = json.loads((self.directory / "state" / "report.json").read_text())
        return document

    def outcomes(self) -> dict[str, str]:
        """The last transition's steps and how they ended."""
        return {step["name"]: step["outcome"] for step in self.report()["steps"]}

    def answers(self) -> list[str]:
        """How the group was answered, every time it accepted that."""
        accepted = ("CompleteLifecycleAction", "ok")
        return [
            call.parameters["LifecycleActionResult"]
            for call in self.group.calls
            if (call.operation, call.outcome) == accepted
        ]

    def answered(self) -> ActionResult | None:
        """What the group took from us; None if it took nothing, or went by its default."""
        action = self.group.action(INSTANCE)
        return action.result if action is not None and action.answered_by == "instance ID" else None

    def registered(self) -> bool:
        """Whether the registry has the app."""
        return self.eureka.registry.anywhere(REGISTRATION) is not None

    def status_in_registry(self) -> str:
        """What callers see of the app; empty if they see nothing."""
        found = self.eureka.registry.anywhere(REGISTRATION)
        return str(found["status"]) if found else ""

    def manifest(self) -> dict[str, Any]:
        """The only manifest in the bucket."""
        (key,) = [key for key in self.bucket.listing() if key.endswith("manifest.json")]
        document: dict[str, Any] = json.loads(self.bucket.get(key))
        return document

    def commands_run(self) -> list[str]:
        """The lines that the commands left."""
        return self.commands.read_text().split() if self.commands.exists() else []


class Ran:
    """How a process ended, and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}{self.err}"

    def assert_two_lines(self) -> tuple[str, str]:
        """An error as it should be: what is wrong, what to do, no more."""
        lines = [line for line in self.err.splitlines() if not line.startswith("{")]
        assert len(lines) == 2, self
        assert lines[0].startswith("error: "), self
        assert lines[1].startswith("  do: "), self
        assert "Traceback" not in self.out + self.err
        return lines[0], lines[1]


def boundary(event: Mapping[str, Any]) -> str:
    """A line of the journal in short: `started logs`."""
    return " ".join(filter(None, [event["event"], event.get("step") or event.get("name", "")]))
