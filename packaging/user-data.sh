#!/bin/bash
# User data for Amazon Linux 2023, Ubuntu 22.04 and newer, Debian 12 and newer: installs lifecycle-agent and starts it.
# Put in your own configuration. May run any number of times. What it said is in /var/log/cloud-init-output.log;
# when it fails, `cloud-init status --long` says so.
set -euo pipefail

# No public index has the agent: name your own index in /etc/pip.conf, or write the URL of the wheel here.
package=lifecycle-agent==0.1.0

mkdir -p /etc/lifecycle-agent
cat >/etc/lifecycle-agent/config.toml <<'END'
[eureka]
urls = ["http://eureka-a:8761/eureka", "http://eureka-b:8761/eureka"]
app = "ORDERS"

[drain]
timeout = "10m"
units = ["orders.service"]

[logs]
bucket = "acme-logs"
paths = ["/var/log/orders/**/*.log"]
journal_units = ["orders.service"]
END

# Python 3.10 or newer, which can make virtual environments: Amazon Linux 2023 keeps it beside its own, Debian and
# Ubuntu keep a part of it in a package of its own.
usable() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
if command -v dnf >/dev/null; then
    python=python3.11
    usable $python || dnf install -y $python
else
    python=python3
    usable $python || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y python3-venv; }
fi

if ! [ -L /usr/bin/lifecycle-agent ]; then # else the image has the package already
    $python -m venv /opt/lifecycle-agent
    /opt/lifecycle-agent/bin/pip install "$package"
    ln -sfn /opt/lifecycle-agent/bin/lifecycle-agent /usr/local/bin/lifecycle-agent
fi
/opt/lifecycle-agent/bin/lifecycle-agent install
