"""What is rehearsed is what the user configured, in the world's own places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle_agent import config
from lifecycle_agent.config import (
    CommandSection,
    Config,
    HttpSection,
    LaunchSection,
    MaintenanceSection,
    NotifySection,
    ReadySection,
    RebalanceSection,
    RegisterSection,
    SpotSection,
    StandbySection,
)
from lifecycle_agent.errors import UsageError
from lifecycle_agent.rehearsal import settings

OUTSIDE = settings.Outside(
    eureka="http://127.0.0.1:1111/eureka",
    app="http://127.0.0.11:2222",
    app_port=2222,
    logs=Path("/world/logs"),
    state=Path("/world/state"),
)


def through_a_file(configured: Config, directory: Path) -> Config:
    path = settings.write(configured, directory, "http://127.0.0.1:3333")
    return replace(config.load(path, {}), document=None)


def placed(configured: Config, real_commands: bool = False, start: tuple[str, ...] = ()) -> Config:
    return settings.place(configured, replace(OUTSIDE, start=start), real_commands)[0]


def test_the_file_says_what_was_meant(tmp_path: Path) -> None:
    default = settings.default()
    meant = placed(
        replace(
            default,
            hooks=replace(default.hooks, on_failure="abandon"),
            drain=replace(
                default.drain,
                command=(CommandSection(("/bin/x", 'a "b" \\ \x7f ü', "$(c)"), 0.5, "fail", "orders"),),
                http=(HttpSection("http://127.0.0.1:1/a?b=c", "PUT", 1.25, "fail"),),
            ),
            notify=(),
        ),
        real_commands=True,
    )
    assert through_a_file(meant, tmp_path) == meant


def test_every_speed_makes_a_configuration_that_the_agent_takes(tmp_path: Path) -> None:
    for speed in (1.0, 6.0, 7.3, 60.0):
        configured = settings.launching(settings.default())
        quick = through_a_file(placed(settings.compress(configured, speed)), tmp_path / str(speed))
        assert quick.eureka.settle == pytest.approx(60 / speed, abs=0.001)


def test_what_prepares_new_instances_comes_through_the_file(tmp_path: Path) -> None:
    meant = placed(
        replace(
            settings.launching(settings.default()),
            spot=SpotSection("notify"),
            rebalance=RebalanceSection("drain"),
            maintenance=MaintenanceSection("drain", 1200.5),
            standby=StandbySection("out-of-service"),
            notify=(),
        ),
        real_commands=True,
        start=("/usr/bin/python3", "/world/start"),
    )
    assert through_a_file(meant, tmp_path) == meant
    assert [one.argv[-1] for one in meant.launch.command] == ["the caches are warm", "/world/start"]
    assert meant.launch.then_start == ()
    assert meant.launch.ready.url == "http://127.0.0.11:2222/actuator/health"


def test_only_who_is_launched_gets_an_app_started_by_a_command() -> None:
    there = placed(settings.launching(settings.default()))
    assert [one.argv[:2] for one in there.launch.command] == [("/bin/echo", "rehearsed:")]
    assert there.launch.then_start == ()


def test_readiness_is_the_worlds_apps() -> None:
    units = ReadySection(argv=("/opt/ready",), user="orders", units=("orders.service",))
    configured = replace(settings.default(), launch=LaunchSection(ready=units))
    there = placed(configured).launch.ready
    assert (there.url, there.argv, there.units) == ("http://127.0.0.11:2222/actuator/health", (), ())
    really = placed(configured, real_commands=True).launch.ready
    assert (really.argv, really.user, really.units) == (("/opt/ready",), "orders", ())
    own = replace(configured, launch=LaunchSection(ready=ReadySection(url="http://127.0.0.1:1/healthz?x=y")))
    assert placed(own).launch.ready.url == "http://127.0.0.11:2222/healthz?x=y"


def test_a_launch_is_as_much_faster_as_the_rest() -> None:
    quick = settings.compress(settings.launching(settings.default()), 20.0)
    assert (quick.launch.timeout, quick.launch.ready.timeout) == (30.0, 6.0)
    assert quick.launch.command[0].timeout == 2.0  # what really runs does not get faster
    assert quick.maintenance.lead == 45.0


def test_notices_go_to_the_world(tmp_path: Path) -> None:
    told = replace(
        settings.default(), notify=(NotifySection("slack"), NotifySection("webhook", events=("start",)))
    )
    sections = through_a_file(placed(told), tmp_path).notify
    assert [(one.kind, one.events, one.url_file and one.url_file.value) for one in sections] == [
        ("slack", ("start", "success", "failure"), "http://127.0.0.1:3333/slack"),
        ("webhook", ("start",), "http://127.0.0.1:3333/webhook"),
    ]


def test_what_names_something_outside_is_replaced_and_the_rest_is_kept() -> None:
    configured = settings.default()
    configured = replace(configured, drain=replace(configured.drain, units=("orders.service",), http=()))
    there = placed(configured)
    assert there.eureka.urls == (OUTSIDE.eureka,)
    assert there.drain.idle.ports == (2222,)
    assert there.drain.units == ()
    assert [one.url for one in there.drain.http] == ["http://127.0.0.11:2222/actuator/shutdown"]
    assert there.drain.command[0].argv[:2] == ("/bin/echo", "rehearsed:")
    assert there.logs is not None
    assert there.logs.paths == ("/world/logs/**/*",)
    assert (there.logs.prefix, there.logs.bucket) == ("asg/{group}/{instance_id}/{time}", "acme-logs")
    assert there.eureka.settle == configured.eureka.settle


def test_what_is_not_configured_is_not_added() -> None:
    there = placed(Config())
    assert there.eureka.urls == ()
    assert there.logs is None
    assert there.drain == Config().drain


def test_the_worlds_app_registers_itself() -> None:
    eureka = replace(settings.default().eureka, register=RegisterSection(port=8080))
    there, notes = settings.place(replace(settings.default(), eureka=eureka), OUTSIDE, False)
    assert there.eureka.register is None
    assert any("[eureka.register]" in note for note in notes)


def test_secrets_are_neither_needed_nor_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        """
        [eureka]
        urls = ["https://eureka/eureka"]
        username = "agent"
        password_file = "/etc/not-there/password"
        ca_file = "ca.pem"
        [[notify]]
        kind = "slack"
        url_file = "slack-url"
        """
    )
    (tmp_path / "slack-url").write_text("https://hooks.slack.com/services/real")
    loaded = settings.load(tmp_path / "mine.toml")
    assert loaded.notify[0].url_file is not None
    assert "real" not in loaded.notify[0].url_file.value
    settings.write(placed(loaded), tmp_path / "out", "http://127.0.0.1:3333")
    assert "ca_file" not in (tmp_path / "out" / "config.toml").read_text()


def test_a_configuration_that_is_wrong_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[eureka]\nsettel = '60s'\n")
    with pytest.raises(UsageError, match="settel"):
        settings.load(tmp_path / "mine.toml")
