"""What uploads a directory: ours, and what people use instead, each with the flags its manual tells them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.upload.measure import Failed
from tests.bench.upload.server import BUCKET, KEYS, URL

ROOT = Path(__file__).parents[3]

OURS, TAR = "ours", "tar"
PLAIN = ("aws", "s5cmd", "rclone")
NAMES = (OURS, *PLAIN, TAR)
TITLES = {
    OURS: "lifecycle-agent logs upload",
    "aws": "aws s3 cp --recursive",
    "s5cmd": "s5cmd cp",
    "rclone": "rclone copy",
    TAR: "tar cz | aws s3 cp -",
}

CONFIG = """
[agent]
state_dir = "{state}"
[logs]
bucket = "{bucket}"
prefix = "{{group}}/{{instance_id}}/{{time}}"
paths = ["{directory}/**/*"]
"""


@dataclass(frozen=True)
class Copiers:
    """Where the programs are, and the environment that they all get.

    Args:
        paths: of programs, by name.
        metadata: the URL of the instance metadata service.
        scratch: a directory for state and home directories.
    """

    paths: Mapping[str, str]
    metadata: str
    scratch: Path

    def environ(self) -> dict[str, str]:
        """Credentials and addresses, as every SDK has them; nothing of whoever runs this."""
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.scratch),
            **KEYS,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": URL,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata,
            "RUNTIME_DIRECTORY": str(self.scratch / "run"),
        }

    def argv(self, name: str, directory: Path, prefix: str) -> list[str]:
        """What uploads `directory` to below `prefix`; ours has a prefix of its own in each run."""
        place, aws = f"s3://{BUCKET}/{prefix}/", self.paths["aws"]
        match name:
            case "aws":
                return [aws, "s3", "cp", "--recursive", "--only-show-errors", str(directory), place]
            case "s5cmd":
                quiet = ["--endpoint-url", URL, "--log", "error"]
                return [self.paths["s5cmd"], *quiet, "cp", f"{directory}/", place]
            case "rclone":
                remote = (
                    f":s3,provider=Other,env_auth=true,region=us-east-1,endpoint='{URL}':{BUCKET}/{prefix}"
                )
                flags = ["--config", "", "--quiet", "--s3-no-check-bucket"]
                # It asks before each body whether to go on, and with versitygw waits a second each time: 15 s
                # in all where it takes 3 without. S3 answers at once.
                flags += ["--expect-continue-timeout", "0"]
                return [self.paths["rclone"], *flags, "copy", str(directory), remote]
            case "tar":
                send = shlex.join([aws, "s3", "cp", "--only-show-errors", "-", f"{place}logs.tar.gz"])
                return ["bash", "-o", "pipefail", "-c", f"tar cz -C {shlex.quote(str(directory))} . | {send}"]
        return self._ours(directory, prefix)

    def _ours(self, directory: Path, prefix: str) -> list[str]:
        """It remembers what it has sent: each run has a state directory of its own."""
        state = self.scratch / "state" / prefix
        state.mkdir(parents=True)
        config = state / "config.toml"
        config.write_text(CONFIG.format(state=state, bucket=BUCKET, directory=directory))
        command = Path(sys.executable).with_name("lifecycle-agent")
        return [str(command), "--config", str(config), "logs", "upload", "--timeout", "4h"]


def find() -> dict[str, str]:
    """Have every program that is needed, and say where each is.

    Raises:
        Failed: one is missing and could not be had.
    """
    setup = str(ROOT / "tests" / "setup")
    found = {}
    for what in ("copiers", "versitygw"):
        done = subprocess.run([setup, what], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"tests/setup {what} failed", "look at what it said above")
        for line in done.stdout.splitlines():
            name, _, path = line.rpartition(" ")
            found[name or what] = path
    missing = [name for name, path in found.items() if not path]
    if missing:
        raise Failed(f"not here: {', '.join(missing)}", "install the packages that have them")
    return found


def versions(paths: Mapping[str, str]) -> dict[str, str]:
    """What each program says it is."""
    asked: dict[str, tuple[list[str], Callable[[str], str]]] = {
        "aws": ([paths["aws"], "--version"], lambda said: said.split()[0].replace("/", " ")),
        "s5cmd": ([paths["s5cmd"], "version"], lambda said: f"s5cmd {said.split('-')[0]}"),
        "rclone": ([paths["rclone"], "version"], lambda said: said.splitlines()[0]),
        "tar": (["tar", "--version"], lambda said: said.splitlines()[0]),
        "gzip": (["gzip", "--version"], lambda said: said.splitlines()[0]),
        "versitygw": (["basename", paths["versitygw"]], lambda said: said.strip().replace("-", " ")),
    }
    return {
        name: short(subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout)
        for name, (argv, short) in asked.items()
    }
