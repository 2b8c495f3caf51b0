"""Many items at once, in their order: as threads become free, the next ones start."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from lifecycle_agent.steps import Work
from lifecycle_agent.steps.logs.items import Item
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.means import Means
from lifecycle_agent.steps.logs.threads import bounded, each
from lifecycle_agent.steps.logs.upload import upload

# Sources being read at once. Small ones are mostly waiting for S3's answer; a part of a large one waits for a
# buffer (`means.BUFFERS`), which is what bounds the memory.
THREADS = 16


def send(items: Sequence[Item], means: Means, work: Work) -> list[Entry]:
    """What came of each item, in their order, by `means.finish` at the latest.

    Raises:
        Interrupted: the agent was told to stop; what was under way can be taken up again.
    """
    total = sum(item.size for item in items)
    names = sum(1 for item in items if not item.same_as)
    sent: dict[str, Entry] = {}

    def say() -> None:
        work.say(f"{len(sent)} of {names} files", min(means.done, total), total)

    def one(item: Item) -> None:
        try:
            sent[item.key] = upload(item, means)
        except (
            Exception
        ) as error:  # of one item: no memory, a library's own; the others must not be lost for it
            sent[item.key] = Entry(item.source, why=f"{type(error).__name__}: {error}")

    jobs = [partial(one, item) for item in items if not item.same_as]
    for _ in each(jobs, THREADS, work, means.finish, say):
        pass
    say()
    with suppress(TimeoutError):
        bounded(means.wrap_up, work, means.finish)
    ended = dict(sent)  # a thread that was left behind may still write to the other one
    return [_entry(item, ended) for item in items]


def _entry(item: Item, ended: dict[str, Entry]) -> Entry:
    entry = ended.get(item.key)
    if entry is None:
        return Entry(item.source, why="time ran out while it was on its way", same_as=item.same_as)
    return replace(entry, source=item.source, same_as=item.same_as) if item.same_as else entry
