"""`lifecycle-agent install` and `uninstall`: unit, drop-in and an example configuration on this machine.

What is to change is found out first, then which of systemd's commands that needs, so that a dry run and a
real one are the same up to the last moment.
"""

from lifecycle_agent.installation.install import install
from lifecycle_agent.installation.launcher import Launcher
from lifecycle_agent.installation.place import Place
from lifecycle_agent.installation.systemd import Systemd, ThisSystemd
from lifecycle_agent.installation.talk import Talk
from lifecycle_agent.installation.uninstall import uninstall

__all__ = ["Launcher", "Place", "Systemd", "Talk", "ThisSystemd", "install", "uninstall"]
