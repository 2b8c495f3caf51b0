"""Notices: what is said, how often it is tried, and that the address is never told."""

from __future__ import annotations

import json
import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lifecycle_agent.clients.webhook import Webhook, WebhookError, _seconds
from lifecycle_agent.config import NotifySection, Secret
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.model import Notice, NoticeKind, Outcome, Report, StepReport
from lifecycle_agent.steps import Done
from lifecycle_agent.steps.notify import Event, Notifier, Notify, as_document, text

NOTICE = Notice(NoticeKind.TERMINATE, "the group takes <this> instance away", 1.0)
SECRET = "T0000/B1111/xyzzy"

refusing = socket.socket()  # bound, never listening: a connection is refused at once
refusing.bind(("127.0.0.1", 0))

Answer = tuple[int, dict[str, str]]


class Receiver(ThreadingHTTPServer):
    """Answers POSTs with what it is told to, then with 200, and keeps what it got."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.got: list[Any] = []
        self.hold: threading.Event | None = None
        self.arrived = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/services/{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body))
        self.server.arrived.set()
        if self.server.hold is not None:
            self.server.hold.wait(30)
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        if status == 0:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def receiving(*answers: Answer) -> Iterator[Receiver]:
    with Receiver(*answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            if server.hold is not None:
                server.hold.set()
            server.shutdown()
            thread.join()


def section(url: str, kind: str = "webhook", *events: str) -> NotifySection:
    return NotifySection(kind, Secret(url), events or ("start", "success", "failure"))


def report(outcome: Outcome = Outcome.DONE) -> Report:
    logs = {"bucket": "b", "manifest_key": "p/manifest.json"}
    steps = (
        StepReport("drain", outcome, "the app <hangs>", 3.25, ("slow",)),
        StepReport("logs", Outcome.DONE, "2 files", 1.5, (), logs),
        StepReport("rest", Outcome.SKIPPED, "no time"),
    )
    return Report("t-1", "i-1", NOTICE, "2026-01-02T03:04:05Z", outcome, 4.8, steps, "answered CONTINUE")


def start() -> Event:
    return Event("start", "t-1", "i-1", "orders", NOTICE)


def test_slack_and_webhook_get_their_own_form() -> None:
    with receiving() as slack, receiving() as hook:
        notifier = Notifier([section(slack.url, "slack"), section(hook.url)])
        assert notifier.send(Event.result(report(), "orders")) == 2
        assert notifier.finish(Deadline.after(10)) == ()
    assert list(slack.got[0]) == ["text"]
    assert hook.got[0]["event"] == "success"
    assert hook.got[0]["manifest"] == "s3://b/p/manifest.json"


def test_only_those_who_asked_are_told() -> None:
    with receiving() as server:
        notifier = Notifier([section(server.url, "webhook", "failure")])
        assert notifier.send(start()) == 0
        assert notifier.send(Event.result(report(Outcome.FAILED), "orders")) == 1
        assert notifier.finish(Deadline.after(10)) == ()
    assert [document["event"] for document in server.got] == ["failure"]


def test_the_document_has_everything_and_a_version() -> None:
    document = json.loads(json.dumps(as_document(Event.result(report(Outcome.FAILED), "orders"))))
    assert document["schema"] == 1
    assert document["reason"] == NOTICE.reason
    assert document["outcome"] == "failed"
    assert {step["name"]: step["seconds"] for step in document["steps"]} == {
        "drain": 3.25,
        "logs": 1.5,
        "rest": None,
    }
    assert document["completion"] == "answered CONTINUE"
    at_start = as_document(start())
    assert at_start.keys() == document.keys()
    assert at_start["outcome"] is None


def test_the_text_names_what_failed_escaped_and_bounded() -> None:
    said = text(Event.result(report(Outcome.FAILED), "orders"))
    assert "i-1 (orders): terminate failed after 4.8 s: the group takes &lt;this&gt; instance away" in said
    assert "drain failed: the app &lt;hangs&gt;" in said
    assert "s3://b/p/manifest.json" in said
    endless = Notice(NoticeKind.TERMINATE, "x" * 100_000, 1.0)
    assert len(text(Event("start", "t", "i-1", "", endless))) < 4000


@pytest.mark.parametrize("first", [(503, {}), (429, {"Retry-After": "0"}), (0, {})])
def test_what_passes_is_tried_again(first: Answer) -> None:
    with receiving(first) as server:
        Webhook(Secret(server.url)).post({"n": 1}, Deadline.after(30))
    assert server.got == [{"n": 1}, {"n": 1}]


@pytest.mark.parametrize("status", [400, 404, 302])
def test_what_does_not_pass_is_tried_once(status: int) -> None:
    with receiving((status, {"Location": "/elsewhere"})) as server:
        with pytest.raises(WebhookError, match=f"answered {status}"):
            Webhook(Secret(server.url)).post({}, Deadline.after(30))
        assert len(server.got) == 1


def test_a_retry_after_beyond_the_budget_is_not_waited_for() -> None:
    with receiving((429, {"Retry-After": "3600"})) as server:
        with pytest.raises(WebhookError, match="429"):
            Webhook(Secret(server.url)).post({}, Deadline.after(30))
        assert len(server.got) == 1


def test_retry_after_may_be_a_date() -> None:
    assert _seconds("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
    assert _seconds("17") == 17.0
    assert _seconds("") is None
    assert _seconds("soon") is None


def test_nothing_waits_for_a_server_that_does_not_answer() -> None:
    with receiving() as server:
        server.hold = threading.Event()
        notifier = Notifier([section(server.url)])
        notifier.send(start())
        assert server.arrived.wait(10)
        assert notifier.finish(Deadline.after(0.01)) == ("notice start to webhook: not delivered in time",)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}/xyzzy", "no url xyzzy", "http://[xyzzy", "http://nowhere.invalid/xyzzy"],
    ids=["refused", "no url", "bad host", "no host"],
)
def test_the_address_is_in_no_text(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = url.replace("{port}", str(refusing.getsockname()[1]))
    with pytest.raises(WebhookError) as caught:
        Webhook(Secret(url)).post({}, Deadline.after(0.2))
    notifier = Notifier([section(url)], budget=0.2)
    notifier.send(start())
    failures = notifier.finish(Deadline.after(20))
    assert failures
    whole = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.hint
    for said in (whole, "".join(failures), caplog.text, repr(notifier), str(section(url))):
        assert "xyzzy" not in said
        assert "nowhere.invalid" not in said
    assert caught.value.__context__ is None


def test_a_delivered_notice_is_not_logged_with_its_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiving() as server:
        Webhook(Secret(server.url)).post({}, Deadline.after(10))
    assert "xyzzy" not in caplog.text


class Quiet:
    """Work that goes on as long as it takes."""

    deadline = Deadline.after(60)

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        pass

    def wait(self, seconds: float) -> None:
        pass


def test_the_step_asks_for_the_event_when_it_runs_and_returns_at_once() -> None:
    with receiving() as server:
        server.hold = threading.Event()
        notifier = Notifier([section(server.url)])
        events: list[Event] = []
        step = Notify(notifier, lambda: events[0])
        events.append(start())
        assert step.run(Quiet()) == Done("start notice on its way to 1")
        server.hold.set()
        assert notifier.finish(Deadline.after(10)) == ()
    assert server.got[0]["instance_id"] == "i-1"
