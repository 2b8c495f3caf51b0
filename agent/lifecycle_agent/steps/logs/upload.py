"""One item after the other: what there is of it in the bucket, or why there is nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

from lifecycle_agent.clients.s3_errors import S3Error, denied
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.steps.logs.items import Item
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.means import Means
from lifecycle_agent.steps.logs.source import Unreadable
from lifecycle_agent.steps.logs.transfer import Anew, Transfer


def upload(item: Item, means: Means) -> Entry:
    """Save one item; whatever goes wrong is in the entry, and stops no other."""
    left = Entry(item.source, compression=item.codec.name, started=now())
    if means.until.passed:
        return replace(left, why=_over(means))
    try:
        source = item.open()
    except (Unreadable, LifecycleAgentError, OSError) as error:
        return replace(left, why=str(error))
    try:
        sent = _sent(item, source.identity, means)
        if sent is not None:
            means.count(sent.bytes)
            return replace(sent, source=item.source, note=source.note)
        try:
            entry = Transfer(means, item, source, left).run()
        except Anew:
            source.close()
            source = item.open()
            entry = Transfer(means, item, source, left).run()
    except S3Error as error:
        means.failed(error)
        return replace(left, why=_over(means) if means.until.passed else error.message)
    except TimeoutError:
        return replace(left, why=_over(means))
    except (Anew, Unreadable, LifecycleAgentError, OSError) as error:
        return replace(left, why=str(error))
    finally:
        source.close()
    entry = replace(entry, finished=now(), note=source.note)
    if entry.complete:
        means.record.done(source.identity, entry)
    means.record.end(item.key)  # not before: who dies in between knows that it is there
    return entry


def _over(means: Means) -> str:
    return means.hopeless.message if means.hopeless else "time ran out before it was sent"


def _sent(item: Item, identity: str, means: Means) -> Entry | None:
    """What of this is in the bucket already, and whole.

    A role that may only write can't ask. What this upload sent is believed to be there; what was shipped
    days ago may have been expired by the bucket, and goes once more.
    """
    sent = means.record.sent.get((item.key, identity))
    if sent is not None and _is_there(sent, means, unless=True):
        return sent
    sent = means.shipped.get(identity)
    return sent if sent is not None and _is_there(sent, means, unless=False) else None


def _is_there(sent: Entry, means: Means, unless: bool) -> bool:
    """Whether it is still in the bucket; `unless` where the role may not ask."""
    try:
        stored = means.store.head(sent.key, means.until)
    except S3Error as error:
        return unless and denied(error)
    return stored is not None and stored.size == sent.stored_bytes


def now() -> str:
    """The wall clock, for people."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
