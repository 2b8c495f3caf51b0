"""What EC2 announces: read, kept, asked for in its time; and what cannot be read."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest

from lifecycle_agent.config import Config, MaintenanceSection, RebalanceSection, SpotSection
from lifecycle_agent.errors import MetadataUnavailableError
from lifecycle_agent.model import Announced
from lifecycle_agent.watch.announced import MOST_LETTERS, Announcements

SPOT, REBALANCE, MAINTENANCE, LIFE_CYCLE = (
    "spot/instance-action",
    "events/recommendations/rebalance",
    "events/maintenance/scheduled",
    "instance-life-cycle",
)
WALL = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)


class Metadata:
    """The service, and two clocks: 1000 s after the boot it is noon."""

    def __init__(self) -> None:
        self.texts: dict[str, str | None] = {LIFE_CYCLE: "spot"}
        self.asked: Counter[str] = Counter()
        self.trouble = False
        self.seconds = 1000.0

    def ask(self, path: str) -> str | None:
        self.asked[path] += 1
        if self.trouble:
            raise MetadataUnavailableError("no answer", "")
        return self.texts.get(path)

    def announcements(self, config: Config | None = None) -> Announcements:
        wall = WALL.timestamp()
        return Announcements(
            config or Config(), self.ask, lambda: self.seconds, lambda: wall + self.seconds - 1000.0
        )


@pytest.fixture
def metadata() -> Metadata:
    return Metadata()


def at(seconds: float) -> str:
    return f"{WALL + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def event(event_id: str, seconds: float, state: str = "active") -> dict[str, str]:
    not_before = f"{WALL + timedelta(seconds=seconds):%d %b %Y %H:%M:%S} GMT"
    return {"Code": "system-reboot", "State": state, "EventId": event_id, "NotBefore": not_before}


def test_an_interruption_is_on_the_boot_clock(metadata: Metadata) -> None:
    metadata.texts[SPOT] = json.dumps({"action": "stop", "time": at(110)})
    announced = metadata.announcements()
    announced.look()
    assert announced.spot == Announced(f"stop {at(110)}", "stop", 1110.0)
    assert announced.rebalance is None
    assert announced.maintenance == ()


def test_a_recommendation_and_scheduled_events(metadata: Metadata) -> None:
    metadata.texts[REBALANCE] = json.dumps({"noticeTime": at(-30)})
    metadata.texts[MAINTENANCE] = json.dumps([event("one", 3600), event("past", -60, "completed")])
    announced = metadata.announcements()
    announced.look()
    assert announced.rebalance == Announced(at(-30), "rebalance", 970.0)
    assert announced.maintenance == (Announced("one", "system-reboot", 4600.0),)


def test_one_that_is_withdrawn_is_gone(metadata: Metadata) -> None:
    metadata.texts[SPOT] = json.dumps({"action": "terminate", "time": at(110)})
    announced = metadata.announcements()
    announced.look()
    metadata.texts[SPOT] = None
    announced.look()
    assert announced.spot is not None, "asked before it was time to"
    metadata.seconds += 5
    announced.look()
    assert announced.spot is None


def test_each_is_asked_for_in_its_own_time(metadata: Metadata) -> None:
    announced = metadata.announcements()
    for _ in range(121):
        announced.look()
        metadata.seconds += 1
    assert metadata.asked == {SPOT: 25, REBALANCE: 25, MAINTENANCE: 3, LIFE_CYCLE: 1}


def test_only_a_spot_instance_is_interrupted(metadata: Metadata) -> None:
    metadata.texts[LIFE_CYCLE] = "on-demand"
    announced = metadata.announcements()
    for _ in range(20):
        announced.look()
        metadata.seconds += 1
    assert metadata.asked == {MAINTENANCE: 1, LIFE_CYCLE: 1}


def test_what_is_ignored_is_not_asked_for(metadata: Metadata) -> None:
    ignored = Config(
        spot=SpotSection(action="ignore"),
        rebalance=RebalanceSection(action="ignore"),
        maintenance=MaintenanceSection(action="ignore"),
    )
    metadata.announcements(ignored).look()
    assert not metadata.asked


def test_trouble_changes_nothing(metadata: Metadata) -> None:
    metadata.texts[SPOT] = json.dumps({"action": "terminate", "time": at(110)})
    announced = metadata.announcements()
    announced.look()
    before = announced.spot
    metadata.trouble, metadata.seconds = True, metadata.seconds + 60
    announced.look()
    assert announced.spot == before
    fresh = metadata.announcements()
    fresh.look()
    assert (fresh.spot, fresh.maintenance) == (None, None)


@pytest.mark.parametrize("path", [SPOT, REBALANCE, MAINTENANCE])
@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "7", "null", '"x"', "[" * 100_000, "[1]", "[{}]"),
        '{"action": "explode", "time": "2026-01-01T12:00:00Z"}',
        '{"noticeTime": "2026-13-01T12:00:00Z"}',
        '[{"Code": "x", "State": "active", "EventId": "x", "NotBefore": "32 Jan 2019 09:00:43 GMT"}]',
        '[{"Code": "x", "State": "active", "EventId": "x", "NotBefore": null}]',
    ],
    ids=lambda text: text[:30],
)
def test_what_cannot_be_read_starts_nothing_and_is_said_once(
    metadata: Metadata, path: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    metadata.texts[path] = text
    announced = metadata.announcements()
    for _ in range(3):
        announced.look()
        metadata.seconds += 60
    assert announced.spot is None
    assert announced.rebalance is None
    assert not announced.maintenance
    assert len(caplog.records) <= 1


@pytest.mark.parametrize("said", ['"tomorrow"', "7", "null", '"2026-13-01T12:00:00Z"'])
def test_an_interruption_whose_time_makes_no_sense_is_one_all_the_same(metadata: Metadata, said: str) -> None:
    metadata.texts[SPOT] = f'{{"action": "Terminate", "time": {said}}}'
    announced = metadata.announcements()
    announced.look()
    assert announced.spot is not None
    assert (announced.spot.what, announced.spot.at) == ("terminate", metadata.seconds)


def test_fractions_of_a_second_are_none_of_our_business(metadata: Metadata) -> None:
    metadata.texts[SPOT] = json.dumps({"action": "stop", "time": at(110).replace("Z", ".250Z")})
    announced = metadata.announcements()
    announced.look()
    assert announced.spot is not None
    assert announced.spot.at == metadata.seconds + 110


def test_one_scheduled_event_that_cannot_be_read_hides_no_other(
    metadata: Metadata, caplog: pytest.LogCaptureFixture
) -> None:
    strange = {"Code": "x", "State": "active", "EventId": "strange"}
    over = [event(f"over-{number}", 60, "completed") for number in range(30)]
    metadata.texts[MAINTENANCE] = json.dumps([*over, strange, event("e" * 500, 60)])
    announced = metadata.announcements()
    announced.look()
    assert announced.maintenance is not None
    assert [each.event for each in announced.maintenance] == ["e" * MOST_LETTERS]
    assert len(caplog.records) == 1
