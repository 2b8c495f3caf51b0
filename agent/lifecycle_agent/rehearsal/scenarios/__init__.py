"""The scenarios, each in a room of its own."""

from __future__ import annotations

from lifecycle_agent.rehearsal.scenario import Scenario
from lifecycle_agent.rehearsal.scenarios import (
    detach,
    event,
    launch,
    maintenance,
    manual,
    rebalance,
    spot,
    standby,
    terminate,
    warm_pool,
)

_ROOMS = (launch, terminate, warm_pool, standby, spot, rebalance, maintenance, detach, event, manual)

# In the order in which `all` plays them.
SCENARIOS: dict[str, Scenario] = {room.SCENARIO.name: room.SCENARIO for room in _ROOMS}
