"""Receives the agent's notices, in place of Slack or of whatever a webhook leads to."""

from __future__ import annotations

import json
from collections.abc import Callable

from flask import Flask, Response, request

from lifecycle_agent.rehearsal.http import Served

SHOWN = 400  # characters of a notice; the timeline cuts further


class Inbox:
    """A receiver on loopback: `url`/slack and `url`/webhook take a POST each.

    Args:
        received: told kind (`slack`, `webhook`) and text of each notice.
    """

    def __init__(self, received: Callable[[str, str], None]) -> None:
        app = Flask(__name__)

        @app.post("/<kind>")
        def take(kind: str) -> Response:
            received(kind, _text(request.get_data(cache=False)))
            return Response("ok")

        self._served = Served(app)
        self.url = self._served.url

    def start(self) -> None:
        """Receive from now on."""
        self._served.start()

    def stop(self) -> None:
        """Receive no more."""
        self._served.stop()


def _text(body: bytes) -> str:
    """What a person would read of a notice."""
    try:
        notice = json.loads(body)
        if "text" in notice:
            return str(notice["text"]).splitlines()[0][:SHOWN]
        said = f"{notice['event']}: {notice['reason']}"
    except (ValueError, KeyError, TypeError, IndexError):
        return f"{len(body)} bytes that are no notice"
    outcome = notice.get("outcome")
    return (f"{said}: {outcome} after {notice['seconds']:.1f} s" if outcome else said)[:SHOWN]
