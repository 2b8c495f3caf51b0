"""The configuration that is rehearsed: the scenario's own or the user's, fitted into the emulated world.

What a person decided is kept (durations, order, prefix, compression, what a failure answers); what names
something outside is replaced by the world's. The agent reads the result as a file, like any other.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lifecycle_agent import config as configuration
from lifecycle_agent import toml
from lifecycle_agent.config import (
    AgentSection,
    CommandSection,
    Config,
    DrainSection,
    EurekaSection,
    HooksSection,
    HttpSection,
    IdleSection,
    LogsSection,
    NotifySection,
    ReadySection,
    WarmUpSection,
)

PASSWORD_FILE = "eureka-password"  # noqa: S105 - a file's name
PASSWORD = "rehearsal"  # noqa: S105 - the emulated registry's
SHUTDOWN, HEALTH = "/actuator/shutdown", "/actuator/health"

# Limits of what really runs (requests, commands) are not compressed below these seconds: the machine
# that rehearses does not get faster.
LEAST_LIMIT = 2.0
LEAST_POLL = 0.2  # config.AgentSection's


@dataclass(frozen=True)
class Outside:
    """What the world offers in place of everything that a configuration names outside the agent.

    Args:
        start: the command that starts the app of an instance which is still to be launched; empty for one
            that is there, and is not launched.
    """

    eureka: str
    app: str
    app_port: int
    logs: Path
    state: Path
    start: tuple[str, ...] = ()


def default() -> Config:
    """What the rehearsal rehearses when nobody brings a configuration: numbers of real life."""
    app = "http://127.0.0.1:8080"  # the world puts its own in place
    return Config(
        agent=AgentSection(poll_interval=1.0),
        hooks=HooksSection(terminate="drain"),
        eureka=EurekaSection(urls=("http://eureka:8761/eureka",), app="ORDERS", settle=60.0),
        drain=DrainSection(
            timeout=300.0,
            idle=IdleSection(ports=(8080,), quiet=3.0, timeout=30.0),
            command=(CommandSection(argv=("/bin/echo", "the last order is taken"), timeout=30.0),),
            http=(HttpSection(url=f"{app}/actuator/pause"), HttpSection(url=app + SHUTDOWN)),
        ),
        logs=LogsSection(bucket="acme-logs", paths=("/var/log/orders/**/*",)),
        notify=(NotifySection(kind="webhook"),),
    )


def ready(config: Config) -> Config:
    """The same where an instance that comes back is awaited until it is healthy."""
    url = f"http://127.0.0.1:8080{HEALTH}"
    return replace(config, launch=replace(config.launch, ready=ReadySection(url=url, timeout=120.0)))


def launching(config: Config) -> Config:
    """The same where new instances are prepared."""
    config = ready(config)
    command = WarmUpSection(argv=("/bin/echo", "the caches are warm"))
    launch = replace(config.launch, timeout=600.0, command=(command,), then_start=("orders.service",))
    return replace(config, hooks=replace(config.hooks, launch="warm-up"), launch=launch)


def load(path: Path) -> Config:
    """The user's configuration, without reading one of its secrets: a rehearsal has no use for them.

    Raises:
        UsageError: it cannot be read or used.
    """
    named = _files_named(toml.Document.read(path, {}).values)
    with tempfile.TemporaryDirectory() as credentials:
        for name in named:
            Path(credentials, Path(name).name).write_text("http://rehearsal.invalid/")
        return configuration.load(path, {"CREDENTIALS_DIRECTORY": credentials})


def _files_named(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Mapping):
                yield from _files_named(part)
            elif key.endswith("_file") and isinstance(part, str) and Path(part).name:
                yield part


def compress(config: Config, speed: float) -> Config:
    """The same with every duration divided by `speed`."""

    def limit(seconds: float) -> float:
        return max(seconds / speed, min(seconds, LEAST_LIMIT))

    drain = replace(
        config.drain,
        timeout=limit(config.drain.timeout),
        stop_timeout=limit(config.drain.stop_timeout),
        idle=replace(
            config.drain.idle,
            quiet=config.drain.idle.quiet / speed,
            timeout=limit(config.drain.idle.timeout),
        ),
        command=tuple(replace(one, timeout=limit(one.timeout)) for one in config.drain.command),
        http=tuple(replace(one, timeout=limit(one.timeout)) for one in config.drain.http),
    )
    ready = min(limit(config.launch.ready.timeout), config.launch.ready.timeout)
    launch = replace(
        config.launch,
        timeout=max(limit(config.launch.timeout), ready + LEAST_LIMIT),
        command=tuple(replace(one, timeout=limit(one.timeout)) for one in config.launch.command),
        ready=replace(config.launch.ready, timeout=ready),
    )
    return replace(
        config,
        agent=replace(config.agent, poll_interval=max(LEAST_POLL, config.agent.poll_interval / speed)),
        eureka=replace(config.eureka, settle=config.eureka.settle / speed),
        drain=drain,
        launch=launch,
        maintenance=replace(config.maintenance, lead=limit(config.maintenance.lead)),
    )


def place(config: Config, outside: Outside, real_commands: bool) -> tuple[Config, list[str]]:
    """The same in the world: its addresses, ports and paths; commands echoed unless they are real.

    Returns:
        The configuration, and what was replaced in it, one sentence each.
    """
    notes: list[str] = []
    http = [replace(one, url=_moved(one.url, outside.app)) for one in config.drain.http]
    if config.drain.units and not any(one.url.endswith(SHUTDOWN) for one in http):
        http.append(HttpSection(url=outside.app + SHUTDOWN))
        notes.append(f"instead of stopping {', '.join(config.drain.units)}: POST {SHUTDOWN}")
    command, launch = config.drain.command, config.launch
    if not real_commands and (command or launch.command):
        command = tuple(replace(one, argv=_echoed(one.argv), user="") for one in command)
        warm_up = tuple(replace(one, argv=_echoed(one.argv), user="") for one in launch.command)
        launch = replace(launch, command=warm_up)
        notes.append("commands are echoed, not run (--real-commands runs them)")
    if outside.start:
        launch = replace(launch, command=(*launch.command, WarmUpSection(outside.start)), then_start=())
        for unit in config.launch.then_start:
            notes.append(f"instead of starting {unit}: a command starts the world's app")
    if launch.ready.asked:
        launch = replace(launch, ready=_ready(launch.ready, outside.app, real_commands))
    logs = config.logs
    if logs is not None:
        logs = replace(logs, paths=(f"{outside.logs}/**/*",), journal_units=())
        if config.logs is not None and config.logs.journal_units:
            notes.append("no journal of units is read")
    if config.eureka.register is not None:
        notes.append("the world's app registers itself: [eureka.register] is left out")
    idle = config.drain.idle
    return replace(
        config,
        agent=replace(config.agent, state_dir=outside.state),
        eureka=replace(
            config.eureka, urls=(outside.eureka,) if config.eureka.urls else (), ca_file=None, register=None
        ),
        drain=replace(
            config.drain,
            command=command,
            http=tuple(http),
            units=(),
            idle=replace(idle, ports=(outside.app_port,) if idle.ports else ()),
        ),
        launch=replace(launch, then_start=()),
        logs=logs,
    ), notes


def _echoed(argv: tuple[str, ...]) -> tuple[str, ...]:
    return ("/bin/echo", "rehearsed:", *argv)


def _ready(ready: ReadySection, app: str, real_commands: bool) -> ReadySection:
    """The world's app is asked: at the same path where its health has one, else where Spring has it."""
    there = replace(ready, url=_moved(ready.url, app) if ready.url else app + HEALTH, units=())
    return there if real_commands else replace(there, argv=(), user="")


def write(config: Config, directory: Path, webhook: str) -> Path:
    """Write `config.toml` and the secrets that it names into `directory`; the path of the former."""
    directory.mkdir(parents=True, exist_ok=True)
    if config.eureka.username:
        _secret(directory / PASSWORD_FILE, PASSWORD)
    for number, section in enumerate(config.notify, 1):
        _secret(directory / f"{section.kind}-url-{number}", f"{webhook}/{section.kind}")
    path = directory / "config.toml"
    path.write_text("\n".join(_lines(config)) + "\n")
    return path


def _secret(path: Path, value: str) -> None:
    path.touch(mode=0o600)
    path.write_text(value + "\n")


def _moved(url: str, base: str) -> str:
    parts = urlsplit(url)
    return base + parts.path + (f"?{parts.query}" if parts.query else "")


def _lines(config: Config) -> Iterator[str]:
    """The configuration as TOML, written for people to read."""
    yield "# What the agent of this rehearsal was configured with."
    yield from _section("agent", poll_interval=_seconds(config.agent.poll_interval))
    yield f"state_dir = {_text(str(config.agent.state_dir))}        # journal and report"
    yield from _section("hooks", terminate=_text(config.hooks.terminate), launch=_text(config.hooks.launch))
    yield f"on_failure = {_text(config.hooks.on_failure)}"
    eureka, drain = config.eureka, config.drain
    if eureka.urls:
        yield from _section("eureka", urls=_texts(eureka.urls), app=_text(eureka.app))
        if eureka.username:
            yield f"username = {_text(eureka.username)}"
            yield f"password_file = {_text(PASSWORD_FILE)}"
        yield f"settle = {_seconds(eureka.settle)}        # the registry's cache and the callers' own"
    yield from _section("drain", timeout=_seconds(drain.timeout), stop_timeout=_seconds(drain.stop_timeout))
    if drain.idle.ports:
        yield from _section("drain.idle", ports=str(list(drain.idle.ports)), quiet=_seconds(drain.idle.quiet))
        yield f"timeout = {_seconds(drain.idle.timeout)}"
    for command in drain.command:
        yield from _command("drain", command)
    for hook in drain.http:
        yield from _section("[drain.http]", url=_text(hook.url), method=_text(hook.method))
        yield f"timeout = {_seconds(hook.timeout)}"
        yield f"on_failure = {_text(hook.on_failure)}"
    launch = config.launch
    if launch.command or launch.ready.asked:
        yield from _section("launch", timeout=_seconds(launch.timeout))
    if launch.ready.asked:
        yield from _section("launch.ready", url=_text(launch.ready.url))
        if launch.ready.argv:
            yield f"argv = {_texts(launch.ready.argv)}"
        if launch.ready.user:
            yield f"user = {_text(launch.ready.user)}"
        yield f"timeout = {_seconds(launch.ready.timeout)}"
    for command in launch.command:
        yield from _command("launch", command)
    yield from _section("spot", action=_text(config.spot.action))
    yield from _section("rebalance", action=_text(config.rebalance.action))
    yield from _section("maintenance", action=_text(config.maintenance.action))
    yield f"lead = {_seconds(config.maintenance.lead)}"
    yield from _section("standby", action=_text(config.standby.action))
    if config.logs is not None:
        yield from _section("logs", bucket=_text(config.logs.bucket), prefix=_text(config.logs.prefix))
        yield f"paths = {_texts(config.logs.paths)}"
        yield f"compression = {_text(config.logs.compression)}"
    for number, notify in enumerate(config.notify, 1):
        yield from _section("[notify]", kind=_text(notify.kind), events=_texts(notify.events))
        yield f"url_file = {_text(f'{notify.kind}-url-{number}')}"


def _section(name: str, **values: str) -> Iterator[str]:
    yield ""
    yield f"[{name}]"
    for key, value in values.items():
        yield f"{key} = {value}"


def _command(room: str, command: CommandSection) -> Iterator[str]:
    yield from _section(f"[{room}.command]", argv=_texts(command.argv), timeout=_seconds(command.timeout))
    yield f"on_failure = {_text(command.on_failure)}"
    if command.user:
        yield f"user = {_text(command.user)}"


def _seconds(seconds: float) -> str:
    return f'"{round(seconds * 1000)}ms"' if seconds % 1 else f'"{seconds:.0f}s"'


def _text(value: str) -> str:
    # JSON's strings are TOML's basic strings, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _texts(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"
