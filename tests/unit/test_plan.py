"""The plan: which steps, in which order, on whose time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_agent.config import (
    CommandSection,
    Config,
    DrainSection,
    EurekaSection,
    HttpSection,
    IdleSection,
    LaunchSection,
    LogsSection,
    NotifySection,
    ReadySection,
    StandbySection,
    WarmUpSection,
)
from lifecycle_agent.model import LifecycleTransition, Notice, NoticeKind, TargetState
from lifecycle_agent.transition.plan import TOO_MANY_DEATHS, Plan, When, make_plan, time_for

TERMINATE = Notice(NoticeKind.TERMINATE, "scale-in", 0.0, LifecycleTransition.TERMINATING)
BY_HAND = Notice(NoticeKind.DRAIN, "by hand", 0.0)
UNDRAIN = Notice(NoticeKind.UNDRAIN, "by hand", 0.0)
SWITCHED_OFF = Notice(
    NoticeKind.SHUTDOWN, "switched off", 0.0, LifecycleTransition.TERMINATING, if_asked=True, ends=90.0
)
REBOOTS = Notice(NoticeKind.REBOOT, "reboots", 0.0, ends=90.0)

WHOLE = Config(
    eureka=EurekaSection(urls=("http://eureka:8761/eureka",), settle=60.0),
    drain=DrainSection(
        timeout=600.0,
        units=("orders.service", "sidecar.service"),
        idle=IdleSection(ports=(8080,), timeout=60.0),
        command=(CommandSection(argv=("/bin/pause",)), CommandSection(argv=("/bin/flush",), timeout=45.0)),
        http=(HttpSection(url="http://127.0.0.1:8080/pause"),),
    ),
    logs=LogsSection(bucket="acme-logs"),
    notify=(NotifySection(kind="webhook"),),
)


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def timeout(plan: Plan, name: str) -> float:
    found = next(step.timeout for step in plan.steps if step.name == name)
    assert found is not None
    return found


def of(seconds: float) -> Config:
    return replace(WHOLE, drain=replace(WHOLE.drain, timeout=seconds))


def test_the_order_of_a_termination() -> None:
    assert names(make_plan(TERMINATE, WHOLE)) == [
        "notify.start",
        "discovery.out_of_service",
        "discovery.settle",
        "drain.command.1",
        "drain.command.2",
        "drain.http.1",
        "drain.idle",
        "drain.units",
        "discovery.deregister",
        "logs",
        "discovery.verify",
        "notify.result",
    ]


def test_which_of_several_commands_a_step_is() -> None:
    steps = {step.name: step for step in make_plan(TERMINATE, WHOLE).steps}
    assert [steps[f"drain.command.{number}"].index for number in (1, 2)] == [0, 1]
    assert steps["drain.command.2"].timeout == 45.0
    assert "/bin/flush" in steps["drain.command.2"].what


def test_what_is_not_configured_is_not_planned() -> None:
    assert names(make_plan(BY_HAND, Config())) == []
    # The group is waited for wherever it is answered: its load balancer comes before the drain.
    assert names(make_plan(TERMINATE, Config())) == ["discovery.settle"]


def test_undrain_starts_units_and_goes_back_into_service() -> None:
    plan = make_plan(UNDRAIN, WHOLE)
    assert names(plan) == ["undrain.units", "discovery.back_in_service", "notify.result"]
    assert plan.steps[0].what == "start sidecar.service, orders.service"
    assert plan.completion_reserve == 0


@pytest.mark.parametrize(
    ("seconds", "units", "deregister", "logs", "complete"),
    [(600.0, 10.0, 5.0, 60.0, 20.0), (120.0, 6.0, 5.0, 18.0, 12.0), (20.0, 1.0, 1.0, 3.0, 2.0)],
)
def test_the_reserves_of_a_long_and_of_a_short_transition(
    seconds: float, units: float, deregister: float, logs: float, complete: float
) -> None:
    plan = make_plan(TERMINATE, of(seconds))
    reserves = {step.name: step.reserve for step in plan.steps if step.reserve}
    assert reserves == pytest.approx({"drain.units": units, "discovery.deregister": deregister, "logs": logs})
    assert plan.completion_reserve == pytest.approx(complete)
    steps = {step.name: step for step in plan.steps}
    assert plan.reserve_after(steps["drain.idle"]) == pytest.approx(units + deregister + logs + complete)
    assert plan.reserve_after(steps["drain.units"]) == pytest.approx(deregister + logs + complete)
    assert plan.reserve_after(steps["discovery.deregister"]) == pytest.approx(logs + complete)
    assert plan.reserve_after(steps["logs"]) == pytest.approx(complete)


def test_nothing_is_kept_for_an_answer_that_is_not_owed() -> None:
    assert make_plan(BY_HAND, WHOLE).completion_reserve == 0


def test_settling_lasts_the_caches_time_and_a_load_balancers() -> None:
    def settle(notice: Notice) -> float:
        found = next(step for step in make_plan(notice, WHOLE).steps if step.name == "discovery.settle")
        assert found.timeout is not None
        return found.timeout

    assert 60 < settle(BY_HAND) < 120
    assert settle(TERMINATE) == pytest.approx(WHOLE.drain.timeout * 2 / 3), "the app keeps its time to drain"


def test_a_load_balancer_gets_all_that_nothing_else_wants() -> None:
    nothing = replace(WHOLE, drain=DrainSection(timeout=600.0))
    (found,) = [step for step in make_plan(TERMINATE, nothing).steps if step.name == "discovery.settle"]
    assert found.timeout == 600


def test_the_callers_caches_go_before_the_drain() -> None:
    short = replace(WHOLE, drain=replace(WHOLE.drain, timeout=70.0))
    (found,) = [step for step in make_plan(TERMINATE, short).steps if step.name == "discovery.settle"]
    assert found.timeout is not None
    assert found.timeout >= short.eureka.settle


def test_a_machine_that_is_switched_off_gets_the_whole_order_in_less_time() -> None:
    plan = make_plan(SWITCHED_OFF, WHOLE, total=90.0)

    assert names(plan) == names(make_plan(TERMINATE, WHOLE))
    assert plan.total == 90
    assert plan.reserve == pytest.approx(0.35 * 90), "units, deregister, logs and answer keep their shares"


@pytest.mark.parametrize("notice", [SWITCHED_OFF, REBOOTS, replace(TERMINATE, ends=90.0)], ids=str)
def test_where_the_machine_goes_settling_is_cut_first(notice: Notice) -> None:
    assert timeout(make_plan(notice, WHOLE, total=90.0), "discovery.settle") == pytest.approx(90 / 2)

    quick = replace(WHOLE, drain=DrainSection(timeout=600.0))
    assert timeout(make_plan(notice, quick, total=90.0), "discovery.settle") == pytest.approx(0.70 * 90)
    assert timeout(make_plan(notice, quick, total=300.0), "discovery.settle") == pytest.approx(65)


def test_after_a_reboot_systemd_starts_what_is_to_run() -> None:
    plan = make_plan(Notice(NoticeKind.RETURN, "up again", 0.0), WHOLE)

    assert names(plan) == ["discovery.back_in_service", "notify.result"]


def test_before_a_reboot_it_is_quiet_and_nothing_is_taken_down() -> None:
    assert names(make_plan(REBOOTS, WHOLE, total=90.0)) == [
        "notify.start",
        "discovery.out_of_service",
        "discovery.settle",
        "drain.command.1",
        "drain.command.2",
        "drain.http.1",
        "drain.idle",
    ]


def test_nobody_waits_for_a_group_that_need_not_ask() -> None:
    nothing = Config()

    assert names(make_plan(SWITCHED_OFF, nothing, total=90.0)) == []
    assert names(make_plan(TERMINATE, nothing)) == ["discovery.settle"]


def test_each_unit_gets_its_time_to_stop() -> None:
    three = replace(WHOLE, drain=replace(WHOLE.drain, units=("a.service", "b.service", "c.service")))
    for notice, name in ((BY_HAND, "drain.units"), (UNDRAIN, "undrain.units")):
        (found,) = [step for step in make_plan(notice, three).steps if step.name == name]
        assert found.timeout == 3 * WHOLE.drain.stop_timeout


@given(
    seconds=st.floats(1, 48 * 3600),
    settle=st.floats(0, 3600),
    command=st.floats(0.1, 7200),
    essential=st.booleans(),
)
def test_budgets_fit_and_leave_the_reserves(
    seconds: float, settle: float, command: float, essential: bool
) -> None:
    config = replace(
        WHOLE,
        eureka=replace(WHOLE.eureka, settle=settle),
        drain=replace(WHOLE.drain, timeout=seconds, command=(CommandSection(argv=("x",), timeout=command),)),
    )
    plan = make_plan(TERMINATE, config, TOO_MANY_DEATHS if essential else 0)
    kept = sum(step.reserve for step in plan.steps) + plan.completion_reserve
    assert 0 < kept <= seconds / 2, "reserves never eat up the steps before them"
    for step, budget in plan.budgets():
        assert 0 <= budget <= seconds - plan.reserve_after(step)
        assert step.timeout is None or budget <= step.timeout


@pytest.mark.parametrize(
    ("deaths", "left"),
    [
        (0, 12),
        (2, 12),
        (3, ["drain.units", "discovery.deregister", "logs", "discovery.verify", "notify.result"]),
        (5, ["drain.units", "discovery.deregister", "logs", "discovery.verify", "notify.result"]),
        (6, []),
        (60, []),
    ],
)
def test_what_is_left_of_the_plan_after_so_many_deaths(deaths: int, left: object) -> None:
    plan = make_plan(TERMINATE, WHOLE, deaths)
    rest = [step.name for step in plan.steps if step not in plan.left_out]
    assert (rest if isinstance(left, list) else len(rest)) == left
    assert plan.completion_reserve > 0
    assert len(plan.steps) == 12, "what is left out is still said to be skipped"


def test_a_transition_that_is_cut_short_keeps_its_shares_and_not_the_whole_reserves() -> None:
    """The hook has a minute where `[drain] timeout` has ten: the app still gets most of it."""
    plan = make_plan(TERMINATE, WHOLE)
    first = plan.steps[0]
    assert plan.reserve_after(first) == 95
    assert plan.reserve_after(first, 60.0) == pytest.approx(60 * (0.05 + 0.05 + 0.15 + 0.10))


# -- every other way in which an instance comes and goes

LAUNCHES = replace(
    WHOLE,
    launch=LaunchSection(
        command=(WarmUpSection(argv=("/bin/warm-up",)), WarmUpSection(argv=("/bin/seed",))),
        then_start=("deploy.service",),
        ready=ReadySection(url="http://127.0.0.1:8080/health", timeout=300.0),
    ),
)
LAUNCH = Notice(NoticeKind.LAUNCH, "new", 0.0, LifecycleTransition.LAUNCHING, target=TargetState.IN_SERVICE)
IN_FRONT, AFTER = ["notify.start"], ["logs", "notify.result"]
WARM_UP = ["launch.command.1", "launch.command.2", "launch.then_start", "launch.ready"]
QUIET = [
    *("discovery.out_of_service", "discovery.settle", "drain.command.1", "drain.command.2"),
    *("drain.http.1", "drain.idle"),
]


def kind(kind: NoticeKind, **changes: Any) -> Notice:
    return replace(Notice(kind, kind.value, 0.0), **changes)


def test_a_launch() -> None:
    plan = make_plan(LAUNCH, LAUNCHES)
    back = ["discovery.back_in_service"]
    assert names(plan) == ["launch.arrival", *IN_FRONT, *WARM_UP, *back, *AFTER]
    assert plan.total == LAUNCHES.launch.timeout
    assert plan.completion_reserve > 0


def test_after_a_spot_interruption_units_are_started_and_only_a_group_that_asks_is_answered() -> None:
    plan = make_plan(replace(LAUNCH, if_asked=True), LAUNCHES)
    started = [*IN_FRONT, "undrain.units", *WARM_UP, "discovery.back_in_service", *AFTER]
    assert names(plan) == started
    assert plan.completion_reserve > 0


@pytest.mark.parametrize("held_back", ["app.service", "app"])
def test_a_unit_that_waits_for_the_launch_is_started_in_its_turn_alone(held_back: str) -> None:
    launch = replace(LAUNCHES.launch, then_start=(held_back,))
    drain = replace(LAUNCHES.drain, units=("app.service", "worker"))
    config = replace(LAUNCHES, launch=launch, drain=drain)
    for about in (replace(LAUNCH, if_asked=True), kind(NoticeKind.LEAVE_POOL), kind(NoticeKind.UNDRAIN)):
        started = {step.name: step.what for step in make_plan(about, config).steps}
        assert started["undrain.units"] == "start worker"
        assert started["launch.then_start"] == f"start {held_back}"
    alone = replace(config, drain=replace(drain, units=("app.service",)))
    assert "undrain.units" not in names(make_plan(kind(NoticeKind.UNDRAIN), alone))


def test_of_a_launch_that_failed_the_logs_are_what_is_left() -> None:
    plan = make_plan(LAUNCH, LAUNCHES)
    when = {step.name: step.when for step in plan.steps}
    assert {name for name, each in when.items() if each is When.FAILED} == {"logs"}
    assert {name for name, each in when.items() if each is When.ALWAYS} == {
        "launch.arrival",
        "notify.start",
        "notify.result",
    }


def test_into_the_pool_it_is_made_ready_and_not_put_into_service() -> None:
    plan = make_plan(replace(LAUNCH, target=TargetState.WARMED_STOPPED), LAUNCHES)
    assert names(plan) == ["launch.arrival", *IN_FRONT, *WARM_UP, *QUIET, "drain.units", *AFTER]


def test_one_that_failed_is_launched_again_without_asking_or_answering() -> None:
    again = names(make_plan(replace(LAUNCH, completes=None), LAUNCHES))
    assert again == [*IN_FRONT, *WARM_UP, "discovery.back_in_service", *AFTER]


def test_a_new_instance_of_the_pool_is_kept_out_of_the_registry_without_any_launch_configured() -> None:
    plan = make_plan(replace(LAUNCH, completes=None, target=TargetState.WARMED_RUNNING), WHOLE)
    assert names(plan) == [*IN_FRONT, *QUIET, "drain.units", *AFTER]


def test_out_of_the_pool_its_units_are_started() -> None:
    plan = make_plan(kind(NoticeKind.LEAVE_POOL, target=TargetState.IN_SERVICE), LAUNCHES)
    back = ["discovery.back_in_service"]
    assert names(plan) == [*IN_FRONT, "undrain.units", *WARM_UP, *back, *AFTER]
    assert make_plan(kind(NoticeKind.LEAVE_POOL), LAUNCHES).total == LAUNCHES.launch.timeout


def test_into_the_pool_out_of_service_are_the_eight_steps() -> None:
    assert names(make_plan(kind(NoticeKind.ENTER_POOL), WHOLE)) == names(make_plan(BY_HAND, WHOLE))


def test_an_app_that_is_not_stopped_keeps_its_registration_in_the_pool() -> None:
    """Deleted, it would register again with its next renewal, and be UP."""
    runs_on = replace(WHOLE, drain=replace(WHOLE.drain, units=()))
    assert names(make_plan(kind(NoticeKind.ENTER_POOL), runs_on)) == [*IN_FRONT, *QUIET, *AFTER]


def test_on_standby_it_keeps_its_registration_too() -> None:
    plan = make_plan(kind(NoticeKind.STANDBY), WHOLE)
    assert names(plan) == [*IN_FRONT, *QUIET, "drain.units", "notify.result"]
    out = replace(WHOLE, standby=StandbySection(action="out-of-service"))
    assert names(make_plan(kind(NoticeKind.STANDBY), out)) == [*IN_FRONT, *QUIET[:2], "notify.result"]


@pytest.mark.parametrize("about", [NoticeKind.UNDRAIN, NoticeKind.RETURN, NoticeKind.LEAVE_POOL])
def test_up_only_after_ready(about: NoticeKind) -> None:
    found = names(make_plan(kind(about), LAUNCHES))
    assert found.index("launch.ready") < found.index("discovery.back_in_service")


@pytest.mark.parametrize("about", [NoticeKind.SPOT, NoticeKind.REBALANCE, NoticeKind.MAINTENANCE])
def test_what_ec2_announces_is_a_drain_or_told(about: NoticeKind) -> None:
    assert names(make_plan(kind(about), WHOLE)) == names(make_plan(BY_HAND, WHOLE))
    assert names(make_plan(kind(about, only_told=True), WHOLE)) == ["notify.start"]


def test_an_interruption_cuts_the_settling_first() -> None:
    about = kind(NoticeKind.SPOT, completes=LifecycleTransition.TERMINATING, if_asked=True, ends=120.0)
    plan = make_plan(about, WHOLE, total=120.0)
    assert timeout(plan, "discovery.settle") == 60.0
    assert 120.0 - 60.0 - plan.reserve > 15.0, "nothing is left for the app's own draining"


def test_a_launch_that_dies_and_dies_saves_its_logs() -> None:
    plan = make_plan(LAUNCH, LAUNCHES, deaths=TOO_MANY_DEATHS)
    left = [step.name for step in plan.steps if step not in plan.left_out]
    assert left == ["logs", "notify.result"]


def test_the_way_back_gets_the_time_that_the_app_may_take() -> None:
    """An app that starts slowly has a `[launch.ready] timeout` for that, which may be longer than a drain."""
    back, plain = kind(NoticeKind.UNDRAIN), replace(WHOLE, launch=LaunchSection())
    assert time_for(back, LAUNCHES) == LAUNCHES.drain.timeout + LAUNCHES.launch.ready.timeout
    assert time_for(back, plain) == plain.drain.timeout
    assert time_for(LAUNCH, LAUNCHES) == LAUNCHES.launch.timeout
    ready = next(step for step in make_plan(back, LAUNCHES).steps if step.name == "launch.ready")
    assert ready.timeout == LAUNCHES.launch.ready.timeout
