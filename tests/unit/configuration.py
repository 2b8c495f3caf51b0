"""What the tests of the configuration share: the whole example, and how a wrong one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle_agent.config import load
from lifecycle_agent.errors import UsageError

# Every section there is, with the values that the reference shows.
EXAMPLE = """
[agent]
poll_interval = "1s"
state_dir = "/var/lib/lifecycle-agent"      # journal, status, report
[hooks]
terminate = "drain"
launch = "warm-up"
on_failure = "continue"                     # or "abandon"; for launch it is always abandon
[eureka]
urls = ["http://eureka-a:8761/eureka", "http://eureka-b:8761/eureka"]
app = "ORDERS"                              # omit: every registration that is this machine's
username = "agent"
password_file = "eureka-password"
settle = "60s"
[drain]
timeout = "10m"                             # the whole transition
units = ["orders.service"]                  # stopped once idle
[drain.idle]
ports = [8080]                              # established connections on these must go to zero
quiet = "3s"                                # and stay there
timeout = "60s"
[[drain.command]]
argv = ["/opt/orders/bin/pause-consumers"]
timeout = "30s"
on_failure = "warn"                         # or "fail"
[[drain.http]]
url = "http://127.0.0.1:8080/actuator/pause"
method = "POST"
[launch]
[[launch.command]]
argv = ["/opt/orders/bin/warm-up"]
[launch.ready]
url = "http://127.0.0.1:8080/actuator/health"
timeout = "5m"
[logs]
bucket = "acme-logs"
prefix = "asg/{group}/{instance_id}/{time}"
paths = ["/var/log/orders/**/*.log", "/var/log/nginx/*.log"]
journal_units = ["orders.service"]
compression = "zstd"                        # or "gzip", "none"
[[notify]]
kind = "slack"                              # or "webhook"
url_file = "slack-url"
events = ["start", "success", "failure"]
[spot]
action = "drain"                            # or "notify", "ignore"
[rebalance]
action = "notify"
[maintenance]
action = "notify"
"""

PASSWORD = "correct horse battery staple"
SLACK_URL = "https://hooks.slack.test/services/T0/B0/abcdef"

Files = Callable[..., Path]


def refused(path: Path, environ: dict[str, str] | None = None) -> UsageError:
    """The error that loading ends with: two lines that can be shown on any terminal."""
    with pytest.raises(UsageError) as caught:
        load(path, environ or {})
    error = caught.value
    assert error.exit_code == 2
    for line in (str(error), error.hint):
        assert line, "an empty line helps nobody"
        assert line.isprintable(), f"not one line: {line!r}"
        assert len(line) < 600
    return error
