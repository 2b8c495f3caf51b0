"""What a configuration may say; whatever is wrong is one line with file and key, and one that helps."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle_agent.config import STORAGE_CLASSES, Config, LogsSection, load
from lifecycle_agent.errors import UsageError
from tests.unit.configuration import EXAMPLE, PASSWORD, Files, refused


def test_the_whole_example_loads(configuration: Files) -> None:
    config = load(configuration(EXAMPLE), {})

    assert config.agent.poll_interval == 1
    assert config.hooks.terminate == "drain"
    assert config.eureka.urls == ("http://eureka-a:8761/eureka", "http://eureka-b:8761/eureka")
    assert config.eureka.password_file is not None
    assert config.eureka.password_file.value == PASSWORD
    assert config.drain.timeout == 600
    assert config.drain.idle.ports == (8080,)
    assert [command.argv for command in config.drain.command] == [("/opt/orders/bin/pause-consumers",)]
    assert [hook.method for hook in config.drain.http] == ["POST"]
    assert config.launch.ready.timeout == 300
    assert config.logs is not None
    assert config.logs.paths == ("/var/log/orders/**/*.log", "/var/log/nginx/*.log")
    assert [(notify.kind, notify.events) for notify in config.notify] == [
        ("slack", ("start", "success", "failure"))
    ]
    assert (config.spot.action, config.rebalance.action, config.maintenance.action) == (
        ("drain", "notify", "notify")
    )


def test_an_empty_file_is_enough(configuration: Files) -> None:
    assert dataclasses.replace(load(configuration(""), {}), document=None) == Config()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("500ms", 0.5), ("1.5s", 1.5), ("0s", 0), ("1h", 3600)],
)
def test_durations(configuration: Files, text: str, seconds: float) -> None:
    assert load(configuration(f'drain.idle.timeout = "{text}"'), {}).drain.idle.timeout == seconds


def test_everything_about_logs(configuration: Files) -> None:
    text = """
        [logs]
        bucket = "acme-logs"
        bucket_owner = "123456789012"
        paths = ["/var/log/**"]
        exclude = ["/var/log/audit", "/var/log/**/*.tmp"]
        first = ["/var/log/orders/*.log"]
        last = ["/var/log/**/*.gz"]
        journal_since = "24h"
        journal_format = "json"
        encryption = "SSE-KMS"
        kms_key_id = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        storage_class = "STANDARD_IA"
        ship = "closed"
        ship_interval = "1m"
        ship_rate = 50
        [logs.tags]
        "cost center" = "Bücher + mehr"
        team = ""
    """

    logs = load(configuration(text), {}).logs

    assert logs is not None
    assert logs.exclude == ("/var/log/audit", "/var/log/**/*.tmp")
    assert (logs.first, logs.last) == (("/var/log/orders/*.log",), ("/var/log/**/*.gz",))
    assert (logs.journal_since, logs.journal_format) == (86400, "json")
    assert (logs.encryption, logs.storage_class, logs.bucket_owner) == (
        ("SSE-KMS", "STANDARD_IA", "123456789012")
    )
    assert logs.kms_key_id.endswith("90ab")
    assert logs.tags == {"cost center": "Bücher + mehr", "team": ""}
    assert (logs.ship, logs.ship_interval, logs.ship_rate) == ("closed", 60, 50)


def test_logs_are_kept_as_the_bucket_has_it_unless_somebody_says_more(configuration: Files) -> None:
    logs = load(configuration('logs = { bucket = "b", journal_since = "boot" }'), {}).logs

    assert logs == LogsSection(bucket="b")
    assert logs.journal_since is None
    assert (logs.encryption, logs.storage_class, logs.tags, logs.ship) == ("", "", {}, "end")


def test_everything_about_a_launch(configuration: Files) -> None:
    text = """
        [launch]
        timeout = "1h"
        then_start = ["codedeploy-agent.service"]
        [[launch.command]]
        argv = ["/opt/orders/bin/warm-up"]
        [[launch.command]]
        argv = ["/opt/orders/bin/tell"]
        user = "orders"
        timeout = "2m"
        on_failure = "warn"
        [launch.ready]
        url = "http://127.0.0.1:8080/actuator/health"
        argv = ["/opt/orders/bin/is-ready", "-q"]
        user = "orders"
        units = ["orders.service"]
        timeout = "10m"
    """

    config = load(configuration(text), {})

    launch = config.launch
    assert (launch.timeout, launch.then_start) == (3600, ("codedeploy-agent.service",))
    assert [(each.on_failure, each.timeout, each.user) for each in launch.command] == [
        ("fail", 30, ""),
        ("warn", 120, "orders"),
    ]
    ready = launch.ready
    assert (ready.argv, ready.user, ready.units) == (
        ("/opt/orders/bin/is-ready", "-q"),
        "orders",
        ("orders.service",),
    )
    assert (ready.timeout, ready.asked, config.launches) == (600, True, True)


@pytest.mark.parametrize(
    ("text", "launches"),
    [
        ("", False),
        ('launch.timeout = "1h"', False),
        ('launch.ready.timeout = "1m"', False),
        ('hooks.terminate = "drain"', False),
        ('hooks.launch = "warm-up"', True),
        ('[[launch.command]]\nargv = ["/x"]', True),
        ('launch.then_start = ["a.service"]', True),
        ('launch.ready.url = "http://127.0.0.1:1/"', True),
        ('launch.ready.argv = ["/x"]', True),
        ('launch.ready.units = ["a.service"]', True),
    ],
)
def test_a_launching_hook_is_ours_once_the_configuration_says_a_word_of_it(
    configuration: Files, text: str, launches: bool
) -> None:
    assert load(configuration(text), {}).launches is launches


def test_what_is_done_about_what_is_announced(configuration: Files) -> None:
    plain, other = (
        load(configuration(""), {}),
        load(
            configuration(
                'standby.action = "out-of-service"\nspot.action = "notify"\nrebalance.action = "drain"\n'
                'maintenance = { action = "drain", lead = "2h" }\n'
            ),
            {},
        ),
    )

    def actions(config: Config) -> list[str]:
        return [each.action for each in (config.standby, config.spot, config.rebalance, config.maintenance)]

    assert actions(plain) == ["drain", "drain", "notify", "notify"]
    assert actions(other) == ["out-of-service", "notify", "drain", "drain"]
    assert (plain.maintenance.lead, other.maintenance.lead) == (900, 7200)


def test_s3_knows_every_storage_class() -> None:
    model: Any = botocore.session.get_session().get_service_model("s3")

    assert set(STORAGE_CLASSES) <= set(model.shape_for("StorageClass").enum)


@pytest.mark.parametrize(
    ("text", "key", "what", "hint"),
    [
        # durations
        ("agent.poll_interval = 1", "agent.poll_interval", "is not a duration: 1", '"90s"'),
        ('agent.poll_interval = "1"', "agent.poll_interval", 'is not a duration: "1"', '"90s"'),
        ('agent.poll_interval = "1 s"', "agent.poll_interval", "is not a duration", '"90s"'),
        ('agent.poll_interval = "-1s"', "agent.poll_interval", "is not a duration", '"90s"'),
        ('agent.poll_interval = "١s"', "agent.poll_interval", "is not a duration", '"90s"'),
        ('agent.poll_interval = ""', "agent.poll_interval", "is not a duration", '"90s"'),
        ('agent.poll_interval = "10ms"', "agent.poll_interval", "out of range", "200ms to 60s"),
        ('agent.poll_interval = "2m"', "agent.poll_interval", "out of range", "200ms to 60s"),
        (f'drain.timeout = "{"9" * 400}h"', "drain.timeout", "out of range", "1s to 48h"),
        # types
        ("hooks.terminate = 5", "hooks.terminate", "is not a string: 5", "quotes"),
        ("hooks.terminate = true", "hooks.terminate", "is not a string: true", "quotes"),
        ("hooks.terminate = 2024-01-01", "hooks.terminate", 'is not a string: "2024-01-01"', "quotes"),
        ('hooks.terminate = ["drain"]', "hooks.terminate", "is not a string: a list", "quotes"),
        ("hooks.terminate.x = 1", "hooks.terminate", "is not a string: a table", "quotes"),
        ('logs.bucket = "b"\nlogs.paths = "/x"', "logs.paths", 'is not a list: "/x"', "[ ... ]"),
        ("drain.units = [1]", "drain.units", "is not a string: 1", "quotes"),
        ('drain.units = [""]', "drain.units", "empty string", "remove it"),
        ("eureka = 5", "eureka", "is not a table: 5", "key = value"),
        ("[[eureka]]", "eureka", "is not a table: a list", "key = value"),
        ("[notify]", "notify", "is not a list: a table", "[[notify]]"),
        ("notify = [1]", "notify[1]", "is not a table: 1", "key = value"),
        ("drain.command.argv = []", "drain.command", "is not a list: a table", "[[drain.command]]"),
        ('hooks.terminate = "a\\u001bb"', "hooks.terminate", "control character", "remove it"),
        # choices
        ('hooks.on_failure = "retry"', "hooks.on_failure", 'is "retry"', '"continue", "abandon"'),
        ('spot.action = "Drain"', "spot.action", 'is "Drain"', '"drain", "notify", "ignore"'),
        ('standby.action = "stop"', "standby.action", 'is "stop"', '"drain", "out-of-service", "ignore"'),
        ('maintenance.lead = "0s"', "maintenance.lead", "out of range", "1s to 72h"),
        ('launch.timeout = "0s"', "launch.timeout", "out of range", "1s to 48h"),
        (
            '[[launch.command]]\nargv = ["a"]\non_failure = ""',
            "launch.command[1].on_failure",
            'is ""',
            '"fail"',
        ),
        ("spot.action = []", "spot.action", "is a list", '"drain", "notify", "ignore"'),
        ('logs.bucket = "b"\nlogs.compression = "lz4"', "logs.compression", 'is "lz4"', '"zstd"'),
        # ports
        ("drain.idle.ports = [0]", "drain.idle.ports", "has 0 in it", "1 to 65535"),
        ("drain.idle.ports = [65536]", "drain.idle.ports", "has 65536 in it", "1 to 65535"),
        ("drain.idle.ports = [true]", "drain.idle.ports", "has true in it", "1 to 65535"),
        ('drain.idle.ports = ["80"]', "drain.idle.ports", 'has "80" in it', "1 to 65535"),
        ("drain.idle.ports = [nan]", "drain.idle.ports", "has NaN in it", "1 to 65535"),
        ("drain.idle.ports = 80", "drain.idle.ports", "is not a list: 80", "[ ... ]"),
        # URLs
        ('eureka.urls = ["eureka:8761"]', "eureka.urls", "is not an http or https URL", "http://host"),
        ('eureka.urls = ["ftp://eureka"]', "eureka.urls", "is not an http or https URL", "http://host"),
        ('eureka.urls = ["http://"]', "eureka.urls", "is not an http or https URL", "http://host"),
        ('eureka.urls = ["http://a b/"]', "eureka.urls", "is not an http or https URL", "http://host"),
        ('eureka.urls = ["http://a:99999"]', "eureka.urls", "is not an http or https URL", "http://host"),
        ('eureka.urls = ["http://[::1"]', "eureka.urls", "is not an http or https URL", "http://host"),
        ('eureka.urls = ["http://me:pw@a/"]', "eureka.urls", "user name or password", "_file"),
        ('launch.ready.url = "/health"', "launch.ready.url", "is not an http or https URL", "http://host"),
        ("[[drain.http]]", "drain.http[1].url", "is missing", "no default"),
        ('[[drain.http]]\nurl = ""', "drain.http[1].url", "is not an http or https URL", "http://host"),
        # names that would fail only when they are needed
        ('hooks.terminate = "my hook"', "hooks.terminate", 'cannot be "my hook"', "letters"),
        ('drain.units = ["--force"]', "drain.units", 'cannot be "--force"', "orders.service"),
        ('drain.units = ["a b"]', "drain.units", 'cannot be "a b"', "orders.service"),
        ('launch.then_start = ["--now"]', "launch.then_start", 'cannot be "--now"', "orders.service"),
        ('launch.ready.units = ["a b"]', "launch.ready.units", 'cannot be "a b"', "orders.service"),
        ('logs.bucket = "s3://acme"', "logs.bucket", 'cannot be "s3://acme"', "name alone"),
        ('agent.state_dir = "state"', "agent.state_dir", "not an absolute path", "from / on"),
        ('logs.bucket = "b"\nlogs.paths = ["*.log"]', "logs.paths", 'cannot be "*.log"', "from / on"),
        ('logs.exclude = ["*.gz"]\nlogs.bucket = "b"', "logs.exclude", 'cannot be "*.gz"', "from / on"),
        ('logs.first = ["a"]\nlogs.bucket = "b"', "logs.first", 'cannot be "a"', "from / on"),
        ('logs.last = "/a"\nlogs.bucket = "b"', "logs.last", 'is not a list: "/a"', "[ ... ]"),
        # how logs are kept and sent
        (
            'logs.journal_since = "bot"\nlogs.bucket = "b"',
            "logs.journal_since",
            "not a duration",
            'or "boot"',
        ),
        ('logs.journal_since = "0s"\nlogs.bucket = "b"', "logs.journal_since", "out of range", "1s to"),
        ('logs.journal_format = "cat"\nlogs.bucket = "b"', "logs.journal_format", 'is "cat"', '"json"'),
        ('logs.encryption = "AES256"\nlogs.bucket = "b"', "logs.encryption", 'is "AES256"', '"SSE-KMS"'),
        (
            'logs = { bucket = "b", encryption = "SSE-KMS", kms_key_id = "a key" }',
            "logs.kms_key_id",
            'cannot be "a key"',
            "alias/NAME",
        ),
        (
            'logs = { bucket = "b", encryption = "SSE-S3", kms_key_id = "alias/logs" }',
            "logs.kms_key_id",
            "without SSE-KMS",
            "remove it",
        ),
        ('logs.storage_class = "SNOW"\nlogs.bucket = "b"', "logs.storage_class", 'is "SNOW"', '"GLACIER_IR"'),
        ('logs.bucket_owner = "12345"\nlogs.bucket = "b"', "logs.bucket_owner", 'be "12345"', "12 digits"),
        ('logs.bucket_owner = 12\nlogs.bucket = "b"', "logs.bucket_owner", "not a string: 12", "quotes"),
        ('logs.tags = ["a"]\nlogs.bucket = "b"', "logs.tags", "is not a table: a list", "{ name ="),
        ('logs = { bucket = "b", tags = { a = 1 } }', "logs.tags", "is not a string: 1", "quotes"),
        ('logs = { bucket = "b", tags = { "" = "" } }', "logs.tags", 'cannot be ""', "up to 128"),
        ('logs = { bucket = "b", tags = { "a;b" = "" } }', "logs.tags", 'cannot be "a;b"', "letters"),
        ('logs = { bucket = "b", tags = { "Aws:a" = "" } }', "logs.tags", 'cannot be "Aws:a"', '"aws:"'),
        (f'[logs]\nbucket = "b"\ntags = {{ {"k" * 129} = "" }}', "logs.tags", "cannot be", "up to 128"),
        (f'[logs]\nbucket = "b"\ntags = {{ k = "{"v" * 257}" }}', "logs.tags", "cannot be", "up to 256"),
        (
            f'[logs]\nbucket = "b"\n[logs.tags]\n{"".join(f"k{n} = 1{chr(10)}" for n in range(11))}',
            "logs.tags",
            "has 11 entries",
            "10",
        ),
        ('logs.ship = true\nlogs.bucket = "b"', "logs.ship", "is true", '"end", "closed"'),
        ('logs.ship_interval = "9s"\nlogs.bucket = "b"', "logs.ship_interval", "out of range", "10s to 24h"),
        ('logs.ship_rate = 0\nlogs.bucket = "b"', "logs.ship_rate", "is 0", "from 1 to"),
        ('logs.ship_rate = 1.5\nlogs.bucket = "b"', "logs.ship_rate", "is 1.5", "whole number"),
        ('logs.ship_rate = true\nlogs.bucket = "b"', "logs.ship_rate", "is true", "whole number"),
        # missing
        ("[logs]", "logs.bucket", "is missing", "no default"),
        ('logs.bucket = ""', "logs.bucket", "is empty", "value"),
        ("[[drain.command]]", "drain.command[1].argv", "is missing", "no default"),
        ("[[launch.command]]\nargv = []", "launch.command[1].argv", "is an empty list", "at least one"),
        ('[[notify]]\nurl_file = "slack-url"', "notify[1].kind", "is missing", "no default"),
        ('[[notify]]\nkind = "slack"', "notify[1].url_file", "is missing", "no default"),
        ('[[notify]]\nkind = "email"', "notify[1].kind", 'is "email"', '"slack", "webhook"'),
        # prefix
        ('logs.bucket = "b"\nlogs.prefix = "{host}"', "logs.prefix", "placeholder {host}", "{group}"),
        ('logs.bucket = "b"\nlogs.prefix = "a{"', "logs.prefix", "single brace", "{group}"),
        ('logs.bucket = "b"\nlogs.prefix = "a/../b"', "logs.prefix", "relative part", "without"),
        (f'logs.bucket = "b"\nlogs.prefix = "{"ü" * 129}"', "logs.prefix", "is 258 bytes long", "256"),
        # impossible together
        ('eureka.username = "me"', "eureka.username", "has no password", "password_file"),
        ('eureka.password_file = "eureka-password"', "eureka.password_file", "no username", "username"),
        ('eureka.app = "ORDERS"', "eureka.app", "without eureka.urls", "eureka.urls"),
        (
            'eureka.urls = ["http://a"]\neureka.settle = "10m"',
            "eureka.settle",
            "leaves nothing of drain.timeout = 600 s",
            "longer",
        ),
        (
            'drain.idle = { ports = [80], quiet = "2m", timeout = "1m" }',
            "drain.idle.quiet",
            "longer than drain.idle.timeout",
            "longer one",
        ),
        (
            'launch = { timeout = "5m", ready = { units = ["a.service"], timeout = "5m" } }',
            "launch.ready.timeout",
            "leaves nothing of launch.timeout = 300 s",
            "make launch.timeout longer",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(
    configuration: Files, text: str, key: str, what: str, hint: str
) -> None:
    path = configuration(text)

    error = refused(path)

    assert str(error).startswith(f"{path}: {key} ")
    assert what in str(error)
    assert hint in error.hint


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("agnet = 1", "agnet", 'did you mean "agent"?'),
        ("[eureka]\nurl = 1", "eureka.url", 'did you mean "urls"?'),
        ('[eureka]\npassword = "hunter2"', "eureka.password", 'did you mean "password_file"?'),
        ("[drain.idle]\nport = []", "drain.idle.port", 'did you mean "ports"?'),
        (
            '[[drain.command]]\nargv = ["a"]\n[[drain.command]]\nargvs = 1',
            "drain.command[2].argvs",
            'did you mean "argv"?',
        ),
        ("[spot]\nzzz = 1", "spot.zzz", "known here: action"),
        ("sources = []", "sources", "known here: agent, drain, "),
        ('"a.b" = 1', '"a.b"', "known here: "),
        ('"two\\nlines" = 1', '"two\\nlines"', "known here: "),
    ],
)
def test_an_unknown_key_is_said_with_the_nearest_known(
    configuration: Files, text: str, key: str, hint: str
) -> None:
    path = configuration(text)

    error = refused(path)

    assert str(error) == f"{path}: {key} is not a known key"
    assert hint in error.hint


def keys(section: type[Any], prefix: str = "") -> Iterator[str]:
    """Every key that the dataclass of a section reads, dotted."""
    for item in dataclasses.fields(section):
        below = item.metadata.get("section") or item.metadata.get("sections")
        if below is not None:
            yield from keys(below, f"{prefix}{item.name}.")
        elif "reader" in item.metadata:
            yield f"{prefix}{item.name}"


@pytest.mark.parametrize("name", ["lifecycle-agent", "lifecycle-agent.service"])
@pytest.mark.parametrize("key", ["drain.units", "launch.then_start"])
def test_the_agent_neither_stops_nor_holds_back_itself(tmp_path: Path, key: str, name: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'{key} = ["orders.service", "{name}"]\n')

    with pytest.raises(UsageError, match=f"{key} has the agent itself in it"):
        load(path, {})


def test_the_reference_lists_every_key() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    rows = [line.split("|")[1] for line in reference.splitlines() if line.startswith("| `")]

    listed = {key for row in rows for key in re.findall(r"`([^`]+)`", row)}

    assert listed == set(keys(Config))


# Anything at all

NAMES = """agent eureka drain logs notify spot idle command http urls url argv timeout ports paths prefix
    action bucket tags ship_rate password_file kind poll_interval"""
KEYS = st.sampled_from(NAMES.split())
SCALARS = st.one_of(
    st.sampled_from(["true", "-1", "80", "nan", "inf", "1e400", "1979-05-27", "07:32:00", "0x1f"]),
    st.sampled_from(['"90s"', '"http://a/"', '"drain"', '"slack"', '"/x"', '"{group}"', '"9h9h"', "'\\'"]),
    st.text(max_size=20).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'),
)
TOML_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(KEYS, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"
        ),
    ),
    max_leaves=6,
)
DOTTED = st.lists(KEYS, min_size=1, max_size=3).map(".".join)
LINES = st.one_of(
    st.tuples(DOTTED, TOML_VALUES).map(" = ".join),
    DOTTED.map(lambda key: f"[{key}]"),
    DOTTED.map(lambda key: f"[[{key}]]"),
    st.text(max_size=30),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.one_of(
        st.lists(LINES, max_size=6).map(lambda lines: "\n".join(lines).encode()), st.binary(max_size=60)
    )
)
def test_whatever_is_in_a_file_it_loads_or_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    try:
        load(path, {})
    except UsageError:
        error = refused(path)
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("prefix", "allowed"),
    [
        ("asg/{group}/{instance_id}/{time}", True),
        ("asg/{instance_id}/{time}/", True),
        ("asg/{group}", True),
        ("asg/{group}/{instance_id}", True),
        ("asg/{time}/{instance_id}", False),
        ("asg/{group}/{time}", False),  # the instance id would be put behind it
        ("asg/{time}/{instance_id}/{time}", False),
        ("asg/{instance_id}/at-{time}", False),
    ],
)
def test_what_is_shipped_early_has_its_place_beside_the_uploads(
    tmp_path: Path, prefix: str, allowed: bool
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[logs]\nbucket = "b"\nprefix = "{prefix}"\nship = "closed"\n')
    if allowed:
        assert load(path).logs is not None
    else:
        with pytest.raises(UsageError, match=r"logs\.prefix"):
            load(path)
        path.write_text(path.read_text().replace("closed", "end"))
        load(path)
