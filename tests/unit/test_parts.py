"""A source in parts that is taken up again: what is made once more must fit where it was."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted
from lifecycle_agent.steps.logs import means
from tests.stage import until
from tests.unit.bucket import PREFIX, Bucket, Job, save

PART = 1 << 20


class Effort:
    """Compresses as hard as it is told, unless that is known."""

    hard = False

    @contextmanager
    def sending(self, size: int) -> Iterator[None]:
        yield

    @contextmanager
    def packing(self, size: int, until: Deadline, known: bool | None = None) -> Iterator[bool]:
        yield self.hard if known is None else known


def text(size: int) -> bytes:
    """Lines that get smaller, by one level of compression more than by another."""
    chance = random.Random(0)
    words = [chance.randbytes(3).hex() for _ in range(3000)]
    return " ".join(chance.choices(words, k=size // 7)).encode()


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_a_part_that_was_lost_is_made_again_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    """Three parts were made at one level, the second did not get there; now another level would be chosen."""
    data, record = text(12 << 20), tmp_path / "record"
    (tmp_path / "large.log").write_bytes(data)
    how: dict[str, Any] = {"part": PART, "record": record, "compression": compression}
    bucket, job, release = Bucket(), Job(), threading.Event()
    monkeypatch.setattr(means, "Effort", Effort)
    monkeypatch.setattr(Effort, "hard", True)

    def before(key: str, number: int) -> None:
        if number == 2:
            until(lambda: record.read_text().count('"part"') == 2)
            job.stopped.set()
        if number not in (1, 3):
            release.wait(30)

    bucket.before = before
    with pytest.raises(Interrupted):
        save(bucket, tmp_path / "large.log", job=job, **how)
    release.set()
    (there,) = bucket.open.values()
    assert set(there) == {1, 3}

    monkeypatch.setattr(Effort, "hard", False)
    bucket.before = lambda key, number: sent.append(number)
    sent: list[int] = []
    assert save(bucket, tmp_path / "large.log", **how).warnings == ()
    assert 2 in sent
    assert not {1, 3} & set(sent)
    (key,) = (key for key in bucket.objects if key.startswith(f"{PREFIX}/files"))
    assert bucket.content(key) == data
