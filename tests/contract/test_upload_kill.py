"""SIGKILL at random moments of an upload until it is done: everything is right, and nothing is sent twice
that was known to be there.

What is sent is counted in units: an object that goes whole, or one part. A unit is known once its line is in
the record, which is written when S3 has answered; each thread has one unit under way and writes its line
before it takes the next. So, whatever the moment:

1. A unit that was known when the process died is never sent again.
2. Of what was begun when it died, no more objects are not known than threads make them, and no more parts
   than threads send them.
3. No life of the process sends a unit twice.

It follows that a unit is sent once, and once more for each death that it was under way at.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.steps.logs.means import BUFFERS
from lifecycle_agent.steps.logs.send import THREADS
from tests.contract.death import MOST, PHASES, Death, known, live
from tests.contract.gateway import Gateway, empty, running  # noqa: F401 # fixtures
from tests.contract.proxy import Exchange
from tests.contract.shipper import PART, noise, prove

pytestmark = pytest.mark.once

# Each is a run with ten deaths; `make test-kills` asks for more.
SEEDS = range(int(os.environ.get("LIFECYCLE_AGENT_KILLS", "1")))
# The n-th request of any kind, or one of the first of a kind.
KINDS = {"": MOST, "Put": MOST, "Create": 3, "UploadPart": 12, "Complete": 2, "List": 1}


def write(logs: Path, small: int) -> dict[str, bytes]:
    originals = {f"{number}.log": noise(10_000 + number) + b"text\n" * 1000 for number in range(small)}
    parts = (2.1, 3.5, 4.0, *[1.2] * 6)
    originals |= {f"large{n}.log": noise(int(PART * size), str(n)) for n, size in enumerate(parts)}
    originals["empty.log"] = b""
    logs.mkdir()
    for name, data in originals.items():
        (logs / name).write_bytes(data)
    return originals


@pytest.mark.parametrize(
    ("compression", "seed", "deaths"),
    [*(("zstd", seed, 10) for seed in SEEDS), ("gzip", 0, 3), ("none", 0, 3)],
)
def test_killed_until_it_is_done(
    s3: Gateway, tmp_path: Path, compression: str, seed: int, deaths: int
) -> None:
    chance = random.Random(f"{compression} {seed}")
    # A life begins no more than `MOST` of them, so that something is left for each.
    originals = write(tmp_path / "logs", deaths * MOST)
    record = tmp_path / "record"
    how: dict[str, Any] = {"pattern": f"{tmp_path}/logs/*", "compression": compression, "record": record}
    how["first"] = [f"{tmp_path}/logs/large*"]  # there are deaths that wait for them
    for _ in range(deaths):
        kind = chance.choice(list(KINDS))
        death = Death(kind, chance.randint(1, KINDS[kind]), chance.choice(PHASES))
        already, known_before = len(s3.proxy.seen), known(record)
        assert live(s3, death, **how) == -9, f"not killed: {death}"
        under_way = begun(s3.proxy.seen[already:], known_before) - known(record)
        parts = {unit for unit in under_way if "#" in unit}
        assert len(parts) <= BUFFERS, f"{death}: not known: {sorted(parts)}"
        assert len(under_way - parts) <= THREADS, f"{death}: not known: {sorted(under_way - parts)}"
    already, known_before = len(s3.proxy.seen), known(record)
    assert live(s3, **how) == 0
    begun(s3.proxy.seen[already:], known_before)
    prove(s3.get, originals)
    assert s3.unfinished() == []


def begun(seen: list[Exchange], known_before: set[str]) -> set[str]:
    """The units that one life began to send."""
    times = Counter(each.unit for each in seen if each.unit and not each.key.endswith("manifest.json"))
    assert sorted(times.keys() & known_before) == [], "sent again, and was known to be there"
    assert set(times.values()) <= {1}, "sent twice in one life"
    return set(times)
