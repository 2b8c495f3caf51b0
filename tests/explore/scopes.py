"""The bounded worlds that are searched: each with a configuration, and with what may happen in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from lifecycle_agent.config import (
    CommandSection,
    Config,
    DrainSection,
    EurekaSection,
    HooksSection,
    LaunchSection,
    MaintenanceSection,
    ReadySection,
    RebalanceSection,
    SpotSection,
)
from lifecycle_agent.model import ActionResult, Hook, LifecycleTransition, TargetState
from tests.explore import agent, group, invariants, surroundings
from tests.explore.rules import Rules
from tests.explore.search import Edge, Found, explore
from tests.explore.world import App, Budget, Group, World

LAUNCHING, TERMINATING = LifecycleTransition.LAUNCHING, LifecycleTransition.TERMINATING


def _hook(name: str, transition: LifecycleTransition, default: ActionResult = ActionResult.ABANDON) -> Hook:
    return Hook(name, transition, 300.0, 30_000.0, default)


DRAIN, WARM_UP = _hook("drain", TERMINATING), _hook("warm-up", LAUNCHING)
CODEDEPLOY = _hook("CodeDeploy-managed-automatic-termination", TERMINATING)
CODEDEPLOY_LAUNCH = _hook("CodeDeploy-managed-automatic-launch", LAUNCHING)
# One that lets instances into service that nobody has prepared.
WARM_UP_CONTINUES = _hook("warm-up", LAUNCHING, ActionResult.CONTINUE)

PLAIN = Config(
    eureka=EurekaSection(urls=("http://eureka.invalid:8761/eureka",)),
    drain=DrainSection(units=("app.service",), command=(CommandSection(argv=("/bin/pause",)),)),
)
LAUNCHES = replace(
    PLAIN,
    hooks=HooksSection(launch="warm-up"),
    launch=LaunchSection(ready=ReadySection(url="http://127.0.0.1:8080/health")),
)
KEPT = replace(PLAIN, hooks=HooksSection(on_failure="abandon"))
LAUNCHES_ADVISED = replace(LAUNCHES, spot=SpotSection(action="drain"))
LAUNCHES_BARELY = replace(LAUNCHES_ADVISED, drain=DrainSection(units=("app.service",)))
ADVISED = replace(
    PLAIN,
    spot=SpotSection(action="drain"),
    rebalance=RebalanceSection(action="drain"),
    maintenance=MaintenanceSection(action="drain"),
)

IN_SERVICE = World(Group("InService"), None)
LAUNCHED = World(Group("InService", "launch"), TargetState.IN_SERVICE)
NEW = World(Group("Pending", "launch"), None, app=App().started())


@dataclass(frozen=True)
class Scope:
    """One bounded world.

    Args:
        ways: those that the group may begin.
        wide: the budget of `make explore`, which takes its time.
        hands: what a person may do, and `budget.hands` how often; so with the others.
        times: whether the time of a transition may run out.
    """

    name: str
    starts: tuple[World, ...]
    config: Config
    hooks: tuple[Hook, ...]
    ways: tuple[str, ...]
    budget: Budget
    wide: Budget
    hands: tuple[str, ...] = ()
    announces: tuple[str, ...] = ()
    times: bool = False
    silences: bool = True
    retains: bool = False
    ours: frozenset[str] = field(default=frozenset())

    def rules(self) -> Rules:
        """The agent in it, unbroken."""
        return Rules(self.config, self.hooks, self.retains)

    def explore(self, rules: Rules | None = None, wide: bool = False, most: int = 20_000_000) -> Found[World]:
        """Search all of it."""
        rules = rules or self.rules()
        ours = frozenset(
            hook.name
            for hook in self.hooks
            if not hook.name.startswith("CodeDeploy")
            and (hook.transition is TERMINATING or self.config.launches)
        )
        checks = invariants.Invariants(rules, ours)

        def moves(world: World) -> Iterator[Edge[World]]:
            if world.machine.state == "up" and world.watcher.alive:
                yield Edge("the agent looks", agent.cycle(world, rules), own=True)
                if self.silences:
                    yield Edge(
                        "the agent looks, and the metadata do not answer", agent.cycle(world, rules, True)
                    )
            if world.machine.state == "up":
                yield from agent.moves(world, rules, "child")
                yield from agent.moves(world, rules, "hand")
            yield from group.moves(world, rules, ours, self.ways)
            yield from surroundings.moves(world, rules, self.hands, self.announces, self.times)

        starts = (start._replace(budget=self.wide if wide else self.budget) for start in self.starts)
        return explore(starts, moves, checks.states, checks.edges, checks.rests, most)


_STANDBY = ("enter standby", "exit standby", "detach", "attach")
_RETURNS = ("return to Warmed:Stopped", "return to Warmed:Running")

SCOPES = (
    Scope(
        "terminate",
        (IN_SERVICE, LAUNCHED),
        PLAIN,
        (DRAIN, CODEDEPLOY),
        ("terminate",),
        Budget(faults=1, kills=1, lost=1),
        Budget(faults=2, kills=3, lost=1),
    ),
    Scope(
        "terminate, late",
        (IN_SERVICE,),
        PLAIN,
        (DRAIN,),
        ("terminate",),
        Budget(kills=2),
        Budget(faults=1, kills=7, lost=1),
        times=True,
    ),
    Scope(
        "terminate, machine",
        (IN_SERVICE,),
        PLAIN,
        (DRAIN,),
        ("terminate",),
        Budget(kills=1, boots=1),
        Budget(kills=2, boots=2, lost=1),
    ),
    Scope(
        "terminate, retained",
        (IN_SERVICE,),
        KEPT,
        (DRAIN,),
        ("terminate",),
        Budget(faults=1),
        Budget(faults=1, kills=1),
        retains=True,
    ),
    Scope(
        "launch",
        (NEW,),
        LAUNCHES,
        (DRAIN, WARM_UP, CODEDEPLOY_LAUNCH),
        ("terminate",),
        Budget(faults=1, kills=1),
        Budget(faults=1, kills=1, boots=1, lost=1),
    ),
    Scope(
        "launch, machine",
        (NEW,),
        LAUNCHES,
        (DRAIN, WARM_UP),
        ("terminate",),
        Budget(boots=1),
        Budget(boots=2, kills=1),
    ),
    Scope(
        "warm pool",
        tuple(
            World(Group("Warmed:Pending", f"launch into {rest}"), None, app=App().started())
            for rest in ("Warmed:Stopped", "Warmed:Running", "Warmed:Hibernated")
        ),
        LAUNCHES,
        (DRAIN, WARM_UP),
        ("leave pool", "terminate", "terminate in the pool", *_RETURNS),
        # Not an answer that is given and never written down: see docs/architecture.md.
        Budget(kills=1, moves=3),
        Budget(faults=1, kills=1, moves=4),
    ),
    Scope(
        "installed later",
        (LAUNCHED,),
        LAUNCHES,
        (DRAIN, WARM_UP),
        ("terminate",),
        Budget(faults=1, boots=1),
        Budget(faults=1, kills=1, boots=1),
    ),
    Scope(
        "installed later, by hand",
        (LAUNCHED,),
        LAUNCHES,
        (DRAIN, WARM_UP),
        ("terminate",),
        Budget(hands=1),
        Budget(faults=1, boots=1, hands=1),
        hands=("drain", "undrain"),
    ),
    Scope(
        "launch, no hook yet",
        (NEW,),
        LAUNCHES,
        (DRAIN, CODEDEPLOY_LAUNCH),
        ("terminate",),
        Budget(faults=1, kills=1),
        Budget(faults=1, kills=1, boots=1),
    ),
    Scope(
        "launch, spot",
        (NEW,),
        LAUNCHES_ADVISED,
        (DRAIN, WARM_UP),
        ("terminate",),
        Budget(announcements=1),
        Budget(kills=1, announcements=1),
        announces=("terminate", "stop"),
    ),
    Scope(
        "launch, spot, late",
        (NEW._replace(shown=TargetState.IN_SERVICE),),
        LAUNCHES_BARELY,
        (WARM_UP,),
        (),
        Budget(announcements=1),
        Budget(announcements=1, moves=1),
        announces=("hibernate",),
        times=True,
        silences=False,
    ),
    Scope(
        "warm pool, by hand",
        (World(Group("Warmed:Pending", "launch into Warmed:Running"), None, app=App().started()),),
        LAUNCHES,
        (DRAIN, WARM_UP),
        ("leave pool", "return to Warmed:Running"),
        Budget(hands=2, moves=2),
        Budget(kills=1, hands=2, moves=2),
        hands=("drain", "undrain"),
    ),
    Scope(
        "standby and detach",
        (IN_SERVICE,),
        PLAIN,
        (DRAIN,),
        (*_STANDBY, "terminate"),
        Budget(boots=1, moves=3),
        Budget(kills=1, boots=1, moves=4),
    ),
    Scope(
        "spot",
        (IN_SERVICE,),
        ADVISED,
        (DRAIN,),
        ("terminate",),
        Budget(announcements=1),
        Budget(kills=1, announcements=1),
        announces=("terminate", "stop", "hibernate"),
        times=True,
    ),
    Scope(
        "advice",
        (IN_SERVICE,),
        ADVISED,
        (DRAIN,),
        ("terminate",),
        Budget(announcements=2),
        Budget(boots=1, announcements=2),
        announces=("rebalance", "maintenance", "terminate"),
    ),
    Scope(
        "advice, machine",
        (IN_SERVICE,),
        ADVISED,
        (DRAIN,),
        ("terminate",),
        Budget(boots=1, announcements=1),
        Budget(kills=1, boots=2, announcements=1),
        announces=("rebalance", "maintenance"),
    ),
    Scope(
        "by hand",
        (IN_SERVICE,),
        PLAIN,
        (DRAIN,),
        ("terminate",),
        Budget(hands=2),
        Budget(boots=1, hands=2),
        hands=("drain", "drain --complete", "undrain"),
    ),
    Scope(
        "by hand, killed",
        (IN_SERVICE,),
        PLAIN,
        (DRAIN,),
        ("terminate",),
        Budget(kills=1, hands=1),
        Budget(kills=1, hands=2),
        hands=("drain", "drain --complete", "undrain"),
    ),
    Scope(
        "by hand, machine",
        (IN_SERVICE,),
        PLAIN,
        (DRAIN,),
        (),
        Budget(kills=1, boots=1, hands=2),
        Budget(kills=2, boots=2, hands=2),
        hands=("drain", "undrain"),
    ),
)
