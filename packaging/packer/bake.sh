#!/bin/sh
# Run as root on the machine that an image is made of, as the last thing: installs the package that lies in /tmp with the
# configuration beside it, and takes away what must be made anew on each machine that boots from the image.
set -eu

install -d -m 755 /etc/lifecycle-agent
install -m 644 /tmp/lifecycle-agent.toml /etc/lifecycle-agent/config.toml
if [ -e /tmp/lifecycle-agent.rpm ]; then
    dnf install -y /tmp/lifecycle-agent.rpm # brings a newer Python along
else
    export DEBIAN_FRONTEND=noninteractive
    # cloud-init's own run of apt-get may not have ended yet
    apt-get -o DPkg::Lock::Timeout=300 update
    apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends /tmp/lifecycle-agent.deb
fi
# A configuration that cannot be used must not get into an image: this says what is wrong, and the build ends.
lifecycle-agent install --no-start
systemctl is-enabled lifecycle-agent.service

# The agent has watched this machine, too. Its journal names the instance, so a copy would know that it is another one;
# nothing of it is of use there.
systemctl stop lifecycle-agent.service || true
rm -rf /var/lib/lifecycle-agent/* /run/lifecycle-agent

# User-data has to run on the first boot of each machine.
if command -v cloud-init >/dev/null; then
    cloud-init clean --logs
fi
# Empty and not gone: systemd then makes a new one, with /etc read-only as well.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id
rm -f /etc/ssh/ssh_host_*
rm -f /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
# The key that Packer came in with.
rm -f /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys
rm -f /root/.bash_history /home/*/.bash_history
journalctl --rotate >/dev/null 2>&1 || true # else the files in use stay
rm -rf /var/log/journal/*
rm -f /tmp/lifecycle-agent.*
sync
