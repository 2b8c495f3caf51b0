"""The watcher as a program: `python -m lifecycle_agent.watch [-v] CONFIG`.

`lifecycle-agent run` turns into this: what lives for months does not carry the command line's library.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lifecycle_agent import config, logline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.watch import daemon
from lifecycle_agent.watch.systemd import Manager


def main(arguments: list[str]) -> int:
    """Watch until told to stop.

    Returns:
        The exit code.
    """
    path = Path(arguments[-1])
    logline.set_up(verbose="-v" in arguments[:-1])
    try:
        loaded = config.load(path)
    except LifecycleAgentError as error:
        Manager().failed(f"{error.message}; {error.hint}")
        sys.stderr.write(f"error: {error.message}\n  do: {error.hint}\n")
        return error.exit_code
    daemon.run(loaded, path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
