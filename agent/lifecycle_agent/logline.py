"""The log on standard error: human lines on a terminal, one JSON object a line everywhere else."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger("lifecycle_agent")

# syslog(3) priorities, which systemd reads off the beginning of a line (sd-daemon(3))
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

MOST_MESSAGE = 2000  # characters; journald and most log services cut lines at a few KiB


def utc(seconds: float | None = None) -> str:
    """A wall clock time for people and files: ISO 8601, UTC, milliseconds."""
    seconds = time.time() if seconds is None else seconds
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1000) % 1000:03d}Z"


class JsonLine(logging.Formatter):
    """One JSON object a line: time, level, message, and the fields given with `extra={"fields": ...}`."""

    def __init__(self, priority: bool = False) -> None:
        super().__init__()
        self._priority = priority

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line, whatever is in it."""
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        line = {"time": utc(record.created), "level": record.levelname.lower(), "message": _text(record)}
        text = json.dumps({**line, **fields}, default=str)
        return f"<{_PRIORITY.get(record.levelno, 6)}>{text}" if self._priority else text


class HumanLine(logging.Formatter):
    """A line for a person: the time of day, the level where it matters, the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line."""
        level = "" if record.levelno <= logging.INFO else record.levelname.lower() + ": "
        return f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {level}{_text(record)}"


def _text(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += f": {record.exc_info[0].__name__}: {record.exc_info[1]}"
    return "".join(each if each.isprintable() else " " for each in text[:MOST_MESSAGE])


def set_up(verbose: bool = False, quiet: bool = False, environ: Mapping[str, str] = os.environ) -> None:
    """Send the agent's log to standard error, in the form that fits where it goes.

    With `quiet` nothing is sent: something else is on the screen.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.CRITICAL + 1 if quiet else logging.NOTSET)
    human = sys.stderr.isatty()
    # JOURNAL_STREAM: standard error is connected to the journal (systemd.exec(5))
    handler.setFormatter(HumanLine() if human else JsonLine(priority="JOURNAL_STREAM" in environ))
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
