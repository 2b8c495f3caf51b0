"""Receives the agent's notices, in place of Slack or of whatever a webhook leads to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, Response, request

from lifecycle_agent.rehearsal.http import Served

SHOWN = 400  # characters of a notice; the timeline cuts further


@dataclass(frozen=True)
class Told:
    """One notice.

    Args:
        by: the way it came, `slack` or `webhook`.
        event: `start`, `success` or `failure`; empty where the way does not say.
        kind: what it is about (`terminate`, `spot`, ...); empty where the way does not say.
        text: what a person would read of it.
    """

    by: str
    event: str
    kind: str
    text: str


class Inbox:
    """A receiver on loopback: `url`/slack and `url`/webhook take a POST each.

    Args:
        received: told each notice.
    """

    def __init__(self, received: Callable[[Told], None]) -> None:
        app = Flask(__name__)

        @app.post("/<kind>")
        def take(kind: str) -> Response:
            received(_told(kind, request.get_data(cache=False)))
            return Response("ok")

        self._served = Served(app)
        self.url = self._served.url

    def start(self) -> None:
        """Receive from now on."""
        self._served.start()

    def stop(self) -> None:
        """Receive no more."""
        self._served.stop()


def _told(by: str, body: bytes) -> Told:
    try:
        notice = json.loads(body)
        if "text" in notice:
            return Told(by, "", "", str(notice["text"]).splitlines()[0][:SHOWN])
        event, kind = str(notice["event"]), str(notice["kind"])
        said = f"{event}: {notice['reason']}"
        outcome = notice.get("outcome")
        text = f"{said}: {outcome} after {notice['seconds']:.1f} s" if outcome else said
    except (ValueError, KeyError, TypeError, IndexError):
        return Told(by, "", "", f"{len(body)} bytes that are no notice")
    return Told(by, event, kind, text[:SHOWN])
