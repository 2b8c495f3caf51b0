"""Who holds the transition's lock."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from lifecycle_agent.transition.lock import Holder, TransitionLock


def test_its_holder_is_who_holds_it(tmp_path: Path) -> None:
    lock = TransitionLock(tmp_path)
    assert lock.holder() is None
    assert lock.acquire("drain")

    assert lock.holder() == Holder(os.getpid(), "drain")
    assert not TransitionLock(tmp_path).acquire("terminate")


def test_a_process_that_wrote_itself_into_it_and_is_gone_holds_nothing(tmp_path: Path) -> None:
    lock = TransitionLock(tmp_path)
    # ... and its number is another's by now, ours: whoever is told to stop, it is not that one
    lock.path.write_text(f"{os.getpid()} drain\n")

    assert lock.holder() is None


def test_nor_does_one_whose_name_is_in_it_while_another_holds_it(tmp_path: Path) -> None:
    lock = TransitionLock(tmp_path)
    with lock.path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{os.getppid()} drain\n")
        file.flush()

        assert lock.holder() is None
