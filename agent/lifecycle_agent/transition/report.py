"""The report: what a transition did, for people and for the machine that comes after."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from lifecycle_agent.files import replace
from lifecycle_agent.logline import logger
from lifecycle_agent.model import Report

SCHEMA = 1


def path_in(directory: Path) -> Path:
    """Where the report of the last transition is."""
    return directory / "report.json"


def as_json(report: Report) -> bytes:
    """The report as a JSON document. Keys are only ever added while `schema` stays the same."""
    return (json.dumps({"schema": SCHEMA, **asdict(report)}, indent=1) + "\n").encode()


def write(report: Report, directory: Path) -> None:
    """Replace `report.json`; one that cannot be written is said in the log and stops nothing."""
    try:
        replace(path_in(directory), as_json(report), durable=True)
    except OSError as error:
        logger.error("the report cannot be written: %s: %s", path_in(directory), error.strerror)
