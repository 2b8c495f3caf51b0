"""Tell people: when a transition starts and how it ended. Nothing ever waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lifecycle_agent.clients.webhook import Webhook
from lifecycle_agent.config import NotifySection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.model import Notice, Outcome, Report
from lifecycle_agent.steps import Done, Work

SCHEMA = 1

# One message, all tries together: three or four of them, or a Retry-After of some seconds (Slack takes one
# message a second from an address). It runs beside everything else, so the number costs nothing by itself.
SEND_SECONDS = 20.0
# Slack cuts a text at 40,000 characters, and nobody reads more than this of a notice.
TEXT_LIMIT = 3000


@dataclass(frozen=True)
class Event:
    """Something to tell.

    Args:
        name: `start`, `success` or `failure`, as in `[[notify]] events`.
        report: how it went; None at the start.
    """

    name: str
    transition_id: str
    instance_id: str
    group: str
    notice: Notice
    report: Report | None = None

    @classmethod
    def result(cls, report: Report, group: str) -> Event:
        """The event a report is: `failure` if anything failed, else `success`."""
        name = "failure" if report.outcome is Outcome.FAILED else "success"
        return cls(name, report.transition_id, report.instance_id, group, report.notice, report)


class Notifier:
    """Sends events to those who asked for them, each in a thread of its own that never holds anything up.

    Args:
        sections: whom to tell, and what.
        budget: seconds for one message, all tries together.
    """

    def __init__(self, sections: Sequence[NotifySection], budget: float = SEND_SECONDS) -> None:
        self._sections = sections
        self._budget = budget
        self._under_way: list[tuple[threading.Thread, str]] = []
        self._failures: list[str] = []

    def send(self, event: Event) -> int:
        """Start sending; returns at once, with how many are told."""
        wanted = [one for one in self._sections if event.name in one.events and one.url_file is not None]
        for section in wanted:
            thread = threading.Thread(target=self._deliver, args=(section, event), daemon=True)
            self._under_way.append((thread, f"{event.name} to {section.kind}"))
            thread.start()
        return len(wanted)

    def finish(self, deadline: Deadline) -> tuple[str, ...]:
        """Wait for what is under way, until `deadline` at most.

        Returns:
            What was not delivered, one sentence each, without any part of an address.
        """
        late = []
        for thread, what in self._under_way:
            thread.join(deadline.remaining())
            if thread.is_alive():
                late.append(f"notice {what}: not delivered in time")
        self._under_way = []
        return (*self._failures, *late)

    def _deliver(self, section: NotifySection, event: Event) -> None:
        try:
            document = {"text": text(event)} if section.kind == "slack" else as_document(event)
            assert section.url_file is not None  # noqa: S101 - `send` has looked
            Webhook(section.url_file).post(document, Deadline.after(self._budget))
        except LifecycleAgentError as error:
            self._failures.append(f"notice {event.name} to {section.kind}: {error.message}; {error.hint}")
        except Exception as error:  # its text may have the address in it: the type has to do
            self._failures.append(f"notice {event.name} to {section.kind}: {type(error).__name__}")


class Notify:
    """The step: hands an event to the notifier and is done.

    Args:
        event: called when the step runs, since only then is it known how things went.
    """

    def __init__(self, notifier: Notifier, event: Callable[[], Event]) -> None:
        self._notifier = notifier
        self._event = event

    def run(self, work: Work) -> Done:
        """Start sending."""
        event = self._event()
        told = self._notifier.send(event)
        return Done(f"{event.name} notice on its way to {told}" if told else "nobody asked to be told")


def as_document(event: Event) -> dict[str, Any]:
    """The JSON document of `kind = "webhook"`. Keys are only ever added while `schema` stays the same."""
    report = event.report
    return {
        "schema": SCHEMA,
        "event": event.name,
        "transition_id": event.transition_id,
        "instance_id": event.instance_id,
        "group": event.group,
        "kind": event.notice.kind.value,
        "reason": event.notice.reason,
        "outcome": report.outcome.value if report else None,
        "started": report.started if report else None,
        "seconds": report.seconds if report else None,
        "steps": [
            {
                "name": step.name,
                "outcome": step.outcome.value,
                "seconds": step.seconds,
                "detail": step.detail,
                "warnings": list(step.warnings),
            }
            for step in (report.steps if report else ())
        ],
        "completion": report.completion if report else "",
        "manifest": _manifest(report),
    }


def text(event: Event) -> str:
    """The event in a few lines for people, escaped as Slack wants it."""
    who = f"{event.instance_id} ({event.group})" if event.group else event.instance_id
    report = event.report
    if report is None:
        lines = [f"{who}: {event.notice.kind.value} starts: {event.notice.reason}"]
    else:
        verdict = "failed" if event.name == "failure" else report.outcome.value
        lines = [
            f"{who}: {event.notice.kind.value} {verdict} after {report.seconds:.1f} s: {event.notice.reason}"
        ]
        took = [f"{step.name} {step.seconds:.1f} s" for step in report.steps if step.seconds is not None]
        lines += [", ".join(took)] if took else []
        for step in report.steps:
            if step.outcome is Outcome.FAILED:
                lines.append(f"{step.name} failed: {step.detail}")
            lines += [f"{step.name}: {warning}" for warning in step.warnings]
        lines += [report.completion] if report.completion else []
        manifest = _manifest(report)
        lines += [f"logs: {manifest}"] if manifest else []
    whole = "\n".join(lines)
    cut = whole if len(whole) <= TEXT_LIMIT else whole[:TEXT_LIMIT] + " …"
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _manifest(report: Report | None) -> str | None:
    """Where the logs' manifest is, as the logs step says it."""
    for step in report.steps if report else ():
        data: Mapping[str, Any] = step.data
        if "bucket" in data and "manifest_key" in data:
            return f"s3://{data['bucket']}/{data['manifest_key']}"
    return None
