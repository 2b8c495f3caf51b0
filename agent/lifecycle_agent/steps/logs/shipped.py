"""What went before the end: where it is in the bucket, and how the upload at the end finds it."""

from __future__ import annotations

from collections.abc import Mapping

from lifecycle_agent.config import LogsSection
from lifecycle_agent.errors import UsageError
from lifecycle_agent.steps.logs import keys, tree
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.record import Record
from lifecycle_agent.steps.logs.select import Found

RECORD = "shipped.jsonl"  # in the state directory

# What stands in keys where an upload has its time; `saved.py` lets a manifest name what is there.
CLOSED = "closed"
_A_TIME = "2026-01-02T030405Z"  # any, as long as they all are


def place(section: LogsSection, instance_id: str) -> str:
    """Whose a record is. What an image brings along of another instance is not ours.

    The group is not in it: it may be another one, or out of reach, the next time. The keys have it.
    """
    return f"{section.bucket}/{section.prefix} {instance_id}"


def beside(prefix: str) -> str:
    """Where an instance ships to, for the prefix of an upload of it."""
    return f"{prefix.rpartition('/')[0]}/{CLOSED}"


def prefix(template: str, values: Mapping[str, str]) -> str:
    """Where to ship to, so that every upload of this instance is beside it.

    Args:
        values: `group` and `instance_id`.

    Raises:
        UsageError: the template puts something else than the time last.
    """
    shipped = keys.prefix(template, {**values, "time": CLOSED})
    if shipped != beside(keys.prefix(template, {**values, "time": _A_TIME})):
        raise UsageError(
            f"logs.prefix {template!r} does not have {{time}} as its last part",
            'end it with /{instance_id}/{time}, or set logs.ship = "end"',
        )
    return shipped


def identity(found: Found) -> str:
    """Which file it is and what is in it, whatever its name; as `FileSource` has it, without opening it."""
    return tree.identity(found.dev, found.inode, found.size, found.mtime_ns)


def usable(record: Record, prefix: str) -> dict[str, Entry]:
    """What a manifest at `prefix` may name of what was shipped, by identity."""
    below = beside(prefix) + "/"
    return {identity: entry for (key, identity), entry in record.sent.items() if key.startswith(below)}
