"""The log directory of the rehearsal's app: what a service leaves on a disk, today's and older."""

from __future__ import annotations

import gzip
import logging
import logging.handlers
import random
from pathlib import Path

ROTATE_AT_BYTES = 64 * 1024  # small, so that a rehearsal of seconds sees the log rotate
KEEP_ROTATED = 9


class Logs:
    """The app's log directory: an access log that rotates, a worker's log, and what earlier days left.

    Args:
        directory: made if it isn't there.
    """

    def __init__(self, directory: Path) -> None:
        (directory / "worker").mkdir(parents=True, exist_ok=True)
        self._yesterday(directory)
        self.access = self._logger(directory / "access.log")
        self.app = self._logger(directory / "app.log")
        self.worker = self._logger(directory / "worker" / "worker.log")

    @staticmethod
    def _logger(path: Path) -> logging.Logger:
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=ROTATE_AT_BYTES, backupCount=KEEP_ROTATED
        )
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger = logging.getLogger(str(path))
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(handler)
        return logger

    @staticmethod
    def _yesterday(directory: Path) -> None:
        """Logs of a machine that has been up for a while: large ones, compressed ones, an empty one."""
        line = "10.0.3.{} GET /orders/{} 200 {} ms user-agent=storefront/4.2\n"
        # Not a secret: the lines need only differ.
        lines = [line.format(n % 250, random.randrange(10**9), n % 70) for n in range(20_000)]  # noqa: S311
        (directory / "access-yesterday.log").write_text("".join(lines))
        with gzip.open(directory / "access-the-day-before.log.gz", "wt") as file:
            file.write("".join(lines[:5000]))
        (directory / "audit.log").touch()

    def flush(self) -> None:
        """Close all files: nothing is written afterwards."""
        for logger in (self.access, self.worker, self.app):
            for handler in list(logger.handlers):
                logger.removeHandler(handler)
                handler.close()
