"""The instance metadata service, asked so that no answer, and no silence, can hold or mislead the watcher.

`ec2_metadata` speaks IMDSv2; this file gives it a transport with a time limit on the whole of one
observation and a limit on the size of an answer, and turns whatever comes back into an `Observation`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from ec2_metadata import EC2Metadata

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import MetadataUnavailableError
from lifecycle_agent.model import Machine, Observation, TargetState

DEFAULT_ENDPOINT = "http://169.254.169.254"
GROUP_TAG = "aws:autoscaling:groupName"

OBSERVE_SECONDS = 1.8  # the loop promises to block no longer than 2 s; an answer normally takes a few ms
MOST_BYTES = 64 * 1024  # the longest answers, identity documents and events, are a few KiB


class _Budget:
    """The time that the requests of one observation have together."""

    def __init__(self) -> None:
        self.deadline = Deadline.after(0)

    def left(self) -> float:
        if self.deadline.passed:
            raise TimeoutError("timed out")
        return self.deadline.remaining()


class _Socket(socket.socket):
    """A socket whose every read gets what is left of the budget: no slow drip of bytes outlasts it."""

    budget: _Budget

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(self.budget.left())
        return super().recv_into(*args, **kwargs)


def _transport(budget: _Budget) -> urllib3.PoolManager:
    """A pool manager for `EC2Metadata` with the budget in force, no retries, and short answers only."""

    class Connection(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            plain = super()._new_conn()
            bounded = _Socket(plain.family, plain.type, plain.proto, fileno=plain.detach())
            bounded.budget = budget
            return bounded

    class Pool(urllib3.connectionpool.HTTPConnectionPool):
        ConnectionCls = Connection

    class Manager(urllib3.PoolManager):
        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> urllib3.BaseHTTPResponse:
            # ec2_metadata brings timeouts of its own (5 s for a token): ours replace them
            kwargs.update(timeout=budget.left(), preload_content=False, redirect=False)
            response = super().request(method, url, *args, **kwargs)
            try:
                body = response.read(MOST_BYTES + 1, decode_content=False)
            except BaseException:
                response.close()
                raise
            if len(body) > MOST_BYTES:
                response.close()
                raise urllib3.exceptions.HTTPError(f"an answer of more than {MOST_BYTES} bytes")
            response.release_conn()
            return urllib3.HTTPResponse(body=body, headers=response.headers, status=response.status)

    manager = Manager(retries=False)
    manager.pool_classes_by_scheme = {"http": Pool}
    return manager


class MetadataClient:
    """Asks the instance metadata service; where it is comes from AWS_EC2_METADATA_SERVICE_ENDPOINT."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.endpoint = (environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        self._budget = _Budget()
        self._metadata = EC2Metadata(_transport(self._budget))
        # the endpoint is plain attributes in ec2_metadata 3, all four of them
        self._metadata.service_url = f"{self.endpoint}/latest/"
        self._metadata.dynamic_url = f"{self._metadata.service_url}dynamic/"
        self._metadata.metadata_url = f"{self._metadata.service_url}meta-data/"
        self._metadata.userdata_url = f"{self._metadata.service_url}user-data/"

    def observe(self) -> Observation:
        """What the group wants of this instance now. Takes at most `OBSERVE_SECONDS`, raises nothing."""
        try:
            word = self._ask(lambda: self._metadata.autoscaling_target_lifecycle_state)
        except MetadataUnavailableError as error:
            return Observation(None, error.message)
        if word is None:
            return Observation(None)
        try:
            return Observation(TargetState(word.strip()))
        except ValueError:
            shown = repr(word[:40]) + ("..." if len(word) > 40 else "")
            return Observation(None, f"the target lifecycle state is {shown}, which is no documented word")

    def machine(self) -> Machine:
        """Which machine this is.

        Raises:
            MetadataUnavailableError: not on EC2, or the service cannot be reached.
        """
        metadata = self._metadata
        return Machine(
            instance_id=self._ask(lambda: metadata.instance_id),
            region=self._ask(lambda: metadata.region),
            addresses=(self._ask(lambda: metadata.private_ipv4),),
            host_names=(self._ask(lambda: metadata.private_hostname).lower(),),
            group=self._group(),
        )

    def _group(self) -> str | None:
        """The group's name where instance tags are in the metadata; most launch templates leave them out."""
        try:
            name: str | None = self._ask(lambda: self._metadata.tags.get(GROUP_TAG))
        except MetadataUnavailableError:
            return None
        return name

    def _ask(self, question: Callable[[], Any]) -> Any:
        """One question within one budget; once more with a new token where the old one is refused."""
        self._budget.deadline = Deadline.after(OBSERVE_SECONDS)
        try:
            try:
                return question()
            except urllib3.exceptions.HTTPError as error:
                if not str(error).startswith("HTTP 401"):
                    raise
                self._metadata.clear_all()  # ec2_metadata keeps a token that was refused
                return question()
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError) as error:
            raise MetadataUnavailableError(
                f"the instance metadata service at {self.endpoint} {_reason(error)}",
                "run this on an EC2 instance with IMDS enabled, or set AWS_EC2_METADATA_SERVICE_ENDPOINT",
            ) from error


def _reason(error: Exception) -> str:
    """What happened, in a few words for the log; errors of urllib3 are long and name objects."""
    text = str(error)
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "cannot be connected to"
    timeouts = (TimeoutError, urllib3.exceptions.TimeoutError)
    if isinstance(error, timeouts) or "timed out" in text:
        return "does not answer"
    if text.startswith(("HTTP ", "Failed to fetch token: ")):
        return f"answers with {text.split(': ')[-1] if text.startswith('Failed') else text[:8]}"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "closes the connection without an answer"
    return f"gives an answer that cannot be used ({type(error).__name__})"
