"""The configuration: TOML into frozen dataclasses, and errors that name file, key and what is allowed.

The dataclasses are the reference of what can be configured: a field's type and default are here,
and `toml.py` reads them. Durations are seconds as float once read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lifecycle_agent import toml
from lifecycle_agent.errors import UsageError
from lifecycle_agent.values import (
    Like,
    Secret,
    boolean,
    choice,
    duration,
    file,
    number,
    path,
    ports,
    secret,
    string,
    strings,
    table,
    tables,
    texts,
    url,
    urls,
)

DEFAULT_PATH = Path("/etc/lifecycle-agent/config.toml")

T = TypeVar("T")

PREFIX_PLACEHOLDERS = ("group", "instance_id", "time")
PREFIX_LIMIT = 256  # bytes of 1024 that a key may have: what is filled in and the file's path need the rest

# Names that would be refused only when they are needed, which is when nobody is there to mend them:
# the pattern of LifecycleHookName in the Auto Scaling API, ...
HOOK_NAME = Like(r"[A-Za-z0-9_/-]{1,255}", 'use letters, digits, "-", "_" and "/" only')
# ... what botocore takes for a bucket before it asks S3, ...
BUCKET = Like(
    r"[A-Za-z0-9._-]{1,255}|arn:[^\s/]+:accesspoint[/:]\S+", "write the bucket's name alone, or an ARN"
)
# ... and systemd.unit(5); a dash in front would be an option of systemctl.
UNIT_NAME = Like(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,254}", 'write a name like "orders.service"')
ABSOLUTE_PATH = Like(r"/.*", "write the path from / on")
URL_PATH = Like(r"/[^\s?#]*", "write the path from / on, as the app serves it")
# A virtual host name of Eureka, or several with commas; a port may follow.
VIP = Like(r"[A-Za-z0-9_.:,-]{1,255}", "write the name that callers look the app up by")
# Eureka's servers write metadata to some clients as XML, with the names as elements.
METADATA_NAME = Like(r"(?!(?i:xml))[A-Za-z_][A-Za-z0-9_.-]{0,127}", 'use letters, digits, "_", "." and "-"')
METADATA_TEXT = Like(r".{0,1024}", "use up to 1024 characters")
# Key id, ARN or alias, as SSEKMSKeyId of the S3 API takes it.
KMS_KEY = Like(r"[A-Za-z0-9:/_-]{1,2048}", "write the key's id, its ARN, or alias/NAME")
ACCOUNT = Like(r"[0-9]{12}", "write the account's id of 12 digits")
# The S3 user guide, "Categorizing your objects using tags"; 10 of them.
_TAG = "letters, digits, spaces and + - = . _ : / @"
TAG_KEY = Like(r"(?!(?i:aws:))[\w .:/=+@-]{1,128}", f'use up to 128 of {_TAG}, without "aws:" in front')
TAG_VALUE = Like(r"[\w .:/=+@-]{0,256}", f"use up to 256 of {_TAG}")
# Those of a general purpose bucket; in others (directory buckets, Outposts, ...) there is one, and no choice.
STORAGE_CLASSES = (
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
    "REDUCED_REDUNDANCY",
)


@dataclass(frozen=True)
class AgentSection:
    """`[agent]`: the watcher itself."""

    poll_interval: float = duration("1s", at_least="200ms", at_most="60s")
    state_dir: Path | None = path(None)  # see files.state_dir


@dataclass(frozen=True)
class HooksSection:
    """`[hooks]`: which lifecycle hooks are ours, and what a failure answers."""

    terminate: str = string("", like=HOOK_NAME)
    launch: str = string("", like=HOOK_NAME)
    on_failure: str = choice("continue", "abandon")


@dataclass(frozen=True)
class RegisterSection:
    """`[eureka.register]`: the agent registers the app, which has no Eureka client of its own.

    `vip` is the app's name in lower case unless it is set; `health_path` also says whether the app is alive.
    """

    port: int = number(0, 1, 65535, required=True)
    vip: str = string("", like=VIP)
    secure: bool = boolean()
    health_path: str = string("", like=URL_PATH)
    status_path: str = string("", like=URL_PATH)
    metadata: Mapping[str, str] = texts(50, METADATA_NAME, METADATA_TEXT)
    lease: float = duration("90s", at_least="2s", at_most="10m")

    @property
    def renew_every(self) -> float:
        """Seconds between two renewals: two may fail before the lease ends."""
        return self.lease / 3


@dataclass(frozen=True)
class EurekaSection:
    """`[eureka]`: where the app is registered."""

    urls: tuple[str, ...] = urls()
    app: str = string("")
    username: str = string("")
    password_file: Secret | None = secret()
    ca_file: Path | None = file()
    settle: float = duration("60s", at_most="1h")
    register: RegisterSection | None = table(RegisterSection, optional=True)


@dataclass(frozen=True)
class CommandSection:
    """`[[drain.command]]`, `[[launch.command]]`: one command, an argv and never a shell."""

    argv: tuple[str, ...] = strings(required=True)
    timeout: float = duration("30s", at_least="100ms", at_most="2h")
    on_failure: str = choice("warn", "fail")
    user: str = string("")


@dataclass(frozen=True)
class HttpSection:
    """`[[drain.http]]`: one request to the app."""

    url: str = url(required=True)
    method: str = choice("POST", "GET", "PUT", "DELETE", "PATCH")
    timeout: float = duration("10s", at_least="100ms", at_most="2h")
    on_failure: str = choice("warn", "fail")


@dataclass(frozen=True)
class IdleSection:
    """`[drain.idle]`: established connections on these ports must go to zero and stay there."""

    ports: tuple[int, ...] = ports()
    quiet: float = duration("3s", at_most="5m")
    timeout: float = duration("60s", at_most="2h")


@dataclass(frozen=True)
class DrainSection:
    """`[drain]`: how the app is brought to rest; `timeout` is the whole transition's."""

    timeout: float = duration("10m", at_least="1s", at_most="48h")
    units: tuple[str, ...] = strings(like=UNIT_NAME)
    stop_timeout: float = duration("90s", at_least="1s", at_most="2h")
    idle: IdleSection = table(IdleSection)
    command: tuple[CommandSection, ...] = tables(CommandSection)
    http: tuple[HttpSection, ...] = tables(HttpSection)


@dataclass(frozen=True)
class WarmUpSection(CommandSection):
    """`[[launch.command]]`: the same, but a failure is one unless said otherwise: the launch is abandoned."""

    on_failure: str = choice("fail", "warn")


@dataclass(frozen=True)
class ReadySection:
    """`[launch.ready]`: when an instance may take requests: once all that is named here is so.

    `url` answers 2xx, `argv` ends with 0, and `units` are active.
    """

    url: str = url()
    argv: tuple[str, ...] = strings()
    user: str = string("")
    units: tuple[str, ...] = strings(like=UNIT_NAME)
    timeout: float = duration("5m", at_least="1s", at_most="2h")

    @property
    def asked(self) -> bool:
        """Whether anything is to be waited for."""
        return bool(self.url or self.argv or self.units)


@dataclass(frozen=True)
class LaunchSection:
    """`[launch]`: how a new instance is prepared; `timeout` is the whole transition's."""

    timeout: float = duration("30m", at_least="1s", at_most="48h")
    command: tuple[WarmUpSection, ...] = tables(WarmUpSection)
    then_start: tuple[str, ...] = strings(like=UNIT_NAME)
    ready: ReadySection = table(ReadySection)


@dataclass(frozen=True)
class LogsSection:
    """`[logs]`: what is saved before the disk is gone, where to, and how it is kept there."""

    bucket: str = string("", like=BUCKET, required=True)
    bucket_owner: str = string("", like=ACCOUNT)
    prefix: str = string("asg/{group}/{instance_id}/{time}")
    paths: tuple[str, ...] = strings(like=ABSOLUTE_PATH)
    exclude: tuple[str, ...] = strings(like=ABSOLUTE_PATH)
    first: tuple[str, ...] = strings(like=ABSOLUTE_PATH)
    last: tuple[str, ...] = strings(like=ABSOLUTE_PATH)
    journal_units: tuple[str, ...] = strings(like=UNIT_NAME)
    journal_since: float | None = duration("boot", "1s", "8760h", word="boot")  # None is the boot
    journal_format: str = choice("export", "json")
    compression: str = choice("zstd", "gzip", "none")
    encryption: str = choice("", "SSE-S3", "SSE-KMS")
    kms_key_id: str = string("", like=KMS_KEY)
    storage_class: str = choice("", *STORAGE_CLASSES)
    tags: Mapping[str, str] = texts(10, TAG_KEY, TAG_VALUE)
    ship: str = choice("end", "closed")
    ship_interval: float = duration("5m", "10s", "24h")
    ship_rate: int = number(20, 1, 100_000)  # Mbit/s


@dataclass(frozen=True)
class NotifySection:
    """`[[notify]]`: whom to tell. The URL is a secret: whoever has it can post."""

    kind: str = choice("slack", "webhook", required=True)
    url_file: Secret | None = secret(required=True, is_url=True)
    events: tuple[str, ...] = strings("start", "success", "failure", among=("start", "success", "failure"))


@dataclass(frozen=True)
class SpotSection:
    """`[spot]`: what a spot interruption notice starts."""

    action: str = choice("drain", "notify", "ignore")


@dataclass(frozen=True)
class RebalanceSection:
    """`[rebalance]`: what a rebalance recommendation starts."""

    action: str = choice("notify", "drain", "ignore")


@dataclass(frozen=True)
class MaintenanceSection:
    """`[maintenance]`: what a scheduled event of EC2 starts, and how long before it a drain begins."""

    action: str = choice("notify", "drain", "ignore")
    lead: float = duration("15m", at_least="1s", at_most="72h")


@dataclass(frozen=True)
class StandbySection:
    """`[standby]`: what is done with the app of an instance on standby.

    `drain` brings it to rest and stops its units, `out-of-service` only keeps callers away.
    """

    action: str = choice("drain", "out-of-service", "ignore")


@dataclass(frozen=True)
class ShutdownSection:
    """`[shutdown]`: what happens when the machine itself is switched off or rebooted while in service.

    `timeout` is how long the shutdown waits for it. systemd ends every shutdown after 30 minutes
    (JobTimeoutSec= of poweroff.target).
    """

    poweroff: str = choice("drain", "ignore")
    reboot: str = choice("drain", "ignore")
    timeout: float = duration("90s", at_least="1s", at_most="25m")


@dataclass(frozen=True)
class Config:
    """Everything that can be configured.

    Args:
        logs: None where no `[logs]` section is.
        document: what it was read from.
    """

    agent: AgentSection = table(AgentSection)
    hooks: HooksSection = table(HooksSection)
    eureka: EurekaSection = table(EurekaSection)
    drain: DrainSection = table(DrainSection)
    launch: LaunchSection = table(LaunchSection)
    logs: LogsSection | None = table(LogsSection, optional=True)
    notify: tuple[NotifySection, ...] = tables(NotifySection)
    spot: SpotSection = table(SpotSection)
    rebalance: RebalanceSection = table(RebalanceSection)
    maintenance: MaintenanceSection = table(MaintenanceSection)
    standby: StandbySection = table(StandbySection)
    shutdown: ShutdownSection = table(ShutdownSection)
    document: toml.Document | None = field(default=None, repr=False, metadata={"internal": True})

    @property
    def launches(self) -> bool:
        """Whether new instances are prepared here, and their launching hook is ours to answer.

        Without a word of it in the configuration, a launching hook that somebody else answers stays theirs.
        """
        launch = self.launch
        return bool(launch.command or launch.then_start or launch.ready.asked or self.hooks.launch)


def load(config_path: Path = DEFAULT_PATH, environ: Mapping[str, str] = os.environ) -> Config:
    """Read `config_path` and the `config.d/*.toml` beside it; later files win key by key.

    Raises:
        UsageError: a file cannot be read, or what is in it cannot be used; names file and key.
    """
    return make(toml.Document.read(config_path, environ))


def make(document: toml.Document) -> Config:
    """The configuration of a document that was read, by this process or by the one that started it.

    Raises:
        UsageError: what is in it cannot be used; names file and key.
    """
    config = document.into(Config)
    _check_together(config, document)
    return config


def part(config_path: Path, key: str, section: type[T], environ: Mapping[str, str] = os.environ) -> T:
    """One section alone, for commands that need no more: what is wrong in the others does not stop them.

    Raises:
        UsageError: the files cannot be read, or what is in this section cannot be used.
    """
    document = toml.Document.read(config_path, environ)
    value = document.part(key, section)
    if isinstance(value, LogsSection):
        _check_logs(value, document)
    return value


def _check_together(config: Config, document: toml.Document) -> None:
    """Refuse what is right by itself and impossible together."""
    eureka, drain = config.eureka, config.drain
    if eureka.username and eureka.password_file is None and not document.forgives:
        raise document.error(
            "eureka.username", "has no password", "name the file that holds it in eureka.password_file"
        )
    if eureka.password_file is not None and not eureka.username:
        raise document.error("eureka.password_file", "has no username", "set eureka.username, or remove it")
    if eureka.app and not eureka.urls:
        raise document.error(
            "eureka.app", "is set without eureka.urls", "name the Eureka servers in eureka.urls"
        )
    if eureka.register is not None:
        _check_register(eureka, config.agent, document)
    if eureka.urls and eureka.settle >= drain.timeout:
        raise document.error(
            "eureka.settle",
            f"of {eureka.settle:g} s leaves nothing of drain.timeout = {drain.timeout:g} s",
            "make drain.timeout longer than eureka.settle, with room for draining and for the logs",
        )
    if drain.idle.ports and drain.idle.quiet > drain.idle.timeout:
        raise document.error(
            "drain.idle.quiet", "is longer than drain.idle.timeout", "make drain.idle.timeout the longer one"
        )
    if {"lifecycle-agent", "lifecycle-agent.service"}.intersection(drain.units):
        raise document.error(
            "drain.units", "has the agent itself in it", "remove it: nobody would answer the group then"
        )
    ready, launch = config.launch.ready, config.launch
    if ready.asked and ready.timeout >= launch.timeout:
        raise document.error(
            "launch.ready.timeout",
            f"of {ready.timeout:g} s leaves nothing of launch.timeout = {launch.timeout:g} s",
            "make launch.timeout longer, with room for the commands and, on a failure, for the logs",
        )
    if ready.user and not ready.argv:
        raise document.error(
            "launch.ready.user", "is set without a command", "name one in launch.ready.argv, or remove it"
        )
    if {"lifecycle-agent", "lifecycle-agent.service"}.intersection(launch.then_start):
        raise document.error(
            "launch.then_start", "has the agent itself in it", "remove it: it would wait for itself"
        )
    if config.logs is not None:
        _check_logs(config.logs, document)


def _check_register(eureka: EurekaSection, agent: AgentSection, document: toml.Document) -> None:
    register = eureka.register
    if register is None:
        return
    if not eureka.app:
        raise document.error("eureka.register", "is set without eureka.app", "name the app in eureka.app")
    if register.renew_every < agent.poll_interval:
        raise document.error(
            "eureka.register.lease",
            f"of {register.lease:g} s is renewed every {register.renew_every:.3g} s, "
            f"and agent.poll_interval is {agent.poll_interval:g} s",
            "make the lease at least three times as long as agent.poll_interval",
        )


def _check_logs(logs: LogsSection, document: toml.Document) -> None:
    _check_prefix(logs.prefix, document)
    if logs.kms_key_id and logs.encryption != "SSE-KMS":
        raise document.error(
            "logs.kms_key_id", "is set without SSE-KMS", 'set logs.encryption = "SSE-KMS", or remove it'
        )
    before, _, last = logs.prefix.rstrip("/").rpartition("/")
    time_is_last = last == "{time}" and "{time}" not in before and "{instance_id}" in before
    if logs.ship == "closed" and "{time}" in logs.prefix and not time_is_last:
        raise document.error(
            "logs.prefix",
            f'is {logs.prefix!r}, and with ship = "closed" {{time}} has to be its last part',
            'end it with "{instance_id}/{time}", or set logs.ship = "end"',
        )


def _check_prefix(prefix: str, document: toml.Document) -> None:
    allowed = ", ".join("{" + name + "}" for name in PREFIX_PLACEHOLDERS)
    for name in re.findall(r"\{([^{}]*)\}", prefix):
        if name not in PREFIX_PLACEHOLDERS:
            raise document.error("logs.prefix", f"has the unknown placeholder {{{name}}}", f"use {allowed}")
    rest = re.sub(r"\{[^{}]*\}", "", prefix)
    if "{" in rest or "}" in rest:
        raise document.error("logs.prefix", f"has a single brace: {prefix!r}", f"placeholders are {allowed}")
    if len(prefix.encode()) > PREFIX_LIMIT:
        raise document.error(
            "logs.prefix", f"is {len(prefix.encode())} bytes long", f"use at most {PREFIX_LIMIT}"
        )
    if any(part in (".", "..") for part in prefix.split("/")):
        raise document.error("logs.prefix", f"has a relative part: {prefix!r}", "write it without . and ..")


__all__ = ["DEFAULT_PATH", "Config", "Secret", "UsageError", "load"]
