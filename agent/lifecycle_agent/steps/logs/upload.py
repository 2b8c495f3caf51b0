"""One item after the other: what there is of it in the bucket, or why there is nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

from lifecycle_agent.clients.s3_errors import S3Error
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.steps.logs.items import Item
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.means import Means
from lifecycle_agent.steps.logs.source import Unreadable
from lifecycle_agent.steps.logs.transfer import SourceChanged, Transfer


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
        sent = means.record.sent.get((item.key, source.identity))
        if sent is not None and _is_there(sent, means):
            means.count(sent.bytes)
            return sent
        try:
            entry = Transfer(means, item, source, left).run()
        except SourceChanged:
            source.close()
            source = item.open()
            entry = Transfer(means, item, source, left).run()
    except S3Error as error:
        if error.hopeless:
            means.give_up(error)
        return replace(left, why=_over(means) if means.until.passed else error.message)
    except TimeoutError:
        return replace(left, why=_over(means))
    except (Unreadable, LifecycleAgentError, OSError) as error:
        return replace(left, why=str(error))
    finally:
        source.close()
    entry = replace(entry, finished=now(), note=source.note)
    if entry.complete:
        means.record.done(source.identity, entry)
    return entry


def _over(means: Means) -> str:
    return means.hopeless.message if means.hopeless else "time ran out before it was sent"


def _is_there(sent: Entry, means: Means) -> bool:
    """Whether what we remember to have sent is still in the bucket.

    A role that may only write can't ask; then what we remember has to do.
    """
    try:
        stored = means.store.head(sent.key, means.until)
    except S3Error as error:
        return error.code in ("403", "AccessDenied")
    return stored is not None and stored.size == sent.stored_bytes


def now() -> str:
    """The wall clock, for people."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
