"""The instance metadata service, asked so that no answer, and no silence, can hold or mislead the watcher.

`ec2_metadata` speaks IMDSv2; this file gives it a transport with a time limit on the whole of one
observation and a limit on the size of an answer, and turns whatever comes back into an `Observation`.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import urllib3
from ec2_metadata import EC2Metadata

from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import MetadataUnavailableError
from lifecycle_agent.model import Machine, Observation, TargetState
from lifecycle_agent.watch.announced import Announcements

DEFAULT_ENDPOINT = "http://169.254.169.254"
GROUP_TAG = "aws:autoscaling:groupName"

OBSERVE_SECONDS = 1.8  # the loop promises to block no longer than 2 s; an answer normally takes a few ms
MOST_BYTES = 64 * 1024  # the longest answers, identity documents and events, are a few KiB

NOT_THERE = "HTTP 404"  # how ec2_metadata begins its error; an answer like any other


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


class _Connection(http.client.HTTPConnection):
    """A connection within the budget."""

    def __init__(self, host: str, port: int | None, budget: _Budget) -> None:
        super().__init__(host, port, timeout=budget.left())
        self._budget = budget

    def connect(self) -> None:
        super().connect()
        plain: socket.socket = self.sock
        self.sock = _Socket(plain.family, plain.type, plain.proto, fileno=plain.detach())
        self.sock.settimeout(self.timeout)
        self.sock.budget = self._budget


class _Transport(urllib3.PoolManager):
    """What `EC2Metadata` sends its requests through: within the budget, no retries, short answers only.

    The service ends the connection after each answer, so a pool of them would only cost time.
    """

    def __init__(self, budget: _Budget) -> None:
        super().__init__()
        self._budget = budget

    def request(self, method: str, url: str, *_: Any, headers: Any = None, **__: Any) -> Any:
        """One request; the time limits that ec2_metadata brings along (5 s for a token) are not taken."""
        parts = urlsplit(url)
        connection = _Connection(parts.hostname or "", parts.port, self._budget)
        try:
            connection.request(method, parts.path, headers=headers)
            response = connection.getresponse()
            body = response.read(MOST_BYTES + 1)
        finally:
            connection.close()
        if len(body) > MOST_BYTES:
            raise ValueError(f"an answer of more than {MOST_BYTES} bytes")
        if 200 < response.status < 400:  # the service has no such answers; ec2_metadata would take them
            raise urllib3.exceptions.HTTPError(f"HTTP {response.status}: {url}")
        # an empty one as a file: of bytes that are empty, `data` would be None
        return urllib3.HTTPResponse(body or io.BytesIO(), status=response.status)


class MetadataClient:
    """Asks the instance metadata service; where it is comes from AWS_EC2_METADATA_SERVICE_ENDPOINT."""

    def __init__(self, environ: Mapping[str, str] = os.environ, config: Config | None = None) -> None:
        self.endpoint = (environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        self._budget = _Budget()
        self._metadata = EC2Metadata(_Transport(self._budget))
        # the endpoint is plain attributes in ec2_metadata 3, all four of them
        self._metadata.service_url = f"{self.endpoint}/latest/"
        self._metadata.dynamic_url = f"{self._metadata.service_url}dynamic/"
        self._metadata.metadata_url = f"{self._metadata.service_url}meta-data/"
        self._metadata.userdata_url = f"{self._metadata.service_url}user-data/"
        self._announced = Announcements(config, self._text) if config is not None else None

    def observe(self, deadline: Deadline | None = None) -> Observation:
        """What the group wants of this instance now, and what EC2 announces of it.

        Raises nothing; takes `OBSERVE_SECONDS` at most.
        """
        self._budget.deadline = deadline or Deadline.after(OBSERVE_SECONDS)
        seen = self._target()
        if self._announced is None:
            return seen
        self._announced.look()
        spot, rebalance, maintenance = (
            self._announced.spot,
            self._announced.rebalance,
            self._announced.maintenance,
        )
        return replace(seen, spot=spot, rebalance=rebalance, maintenance=maintenance)

    def _target(self) -> Observation:
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

    def machine(self, deadline: Deadline | None = None) -> Machine:
        """Which machine this is, within `OBSERVE_SECONDS` or `deadline`.

        Raises:
            MetadataUnavailableError: not on EC2, or the service cannot be reached.
        """
        self._budget.deadline = deadline or Deadline.after(OBSERVE_SECONDS)
        metadata = self._metadata
        return Machine(
            instance_id=self._words(lambda: metadata.instance_id)[0],
            region=self._words(lambda: metadata.region)[0],
            addresses=self._words_if_any(lambda: metadata.private_ipv4),
            # a DHCP option set with several domain names puts them behind the host's, with spaces
            host_names=self._words_if_any(lambda: metadata.private_hostname.lower())[:1],
            group=self._group(),
        )

    def _words(self, question: Callable[[], Any]) -> tuple[str, ...]:
        """The answer's words; an answer without any, or with what is no text, cannot be used."""

        def ask() -> tuple[str, ...]:
            answer = question()
            if not answer.strip() or not answer.isprintable():
                raise ValueError(answer)
            return tuple(answer.split())

        words: tuple[str, ...] = self._ask(ask)
        return words

    def _words_if_any(self, question: Callable[[], Any]) -> tuple[str, ...]:
        """The same; none where there is no such thing: not every machine has an IPv4 address or a name."""
        try:
            return self._words(question)
        except MetadataUnavailableError as error:
            if str(error.__cause__).startswith(NOT_THERE):
                return ()
            raise

    def _group(self) -> str | None:
        """The group's name where instance tags are in the metadata; most launch templates leave them out."""
        try:
            name: str | None = self._ask(lambda: self._metadata.tags.get(GROUP_TAG))
        except MetadataUnavailableError:
            return None
        return name or None

    def _text(self, path: str) -> str | None:
        """What is at a path below `latest/meta-data/`; None for 404. ec2_metadata has no names for these."""

        def ask() -> str | None:
            url = f"{self._metadata.metadata_url}{path}"
            answer = self._metadata._get_url(url, allow_404=True)
            return None if answer.status == 404 else str(answer.data.decode())

        text: str | None = self._ask(ask)
        return text

    def _ask(self, question: Callable[[], Any]) -> Any:
        """One question within the budget; once more with a new token where the old one is refused."""
        try:
            try:
                return question()
            except urllib3.exceptions.HTTPError as error:
                if not str(error).startswith("HTTP 401"):
                    raise
                self._metadata.clear_all()  # ec2_metadata keeps a token that was refused
                return question()
        except Exception as error:  # a strange answer may surface as anything from inside the libraries
            if not str(error).startswith(NOT_THERE):
                self._metadata.clear_all()  # ... and may be what is kept: a token, an instance id
            raise MetadataUnavailableError(
                f"the instance metadata service at {self.endpoint} {_reason(error)}",
                "run this on an EC2 instance with IMDS enabled, or set AWS_EC2_METADATA_SERVICE_ENDPOINT",
            ) from error


def _reason(error: Exception) -> str:
    """What happened, in a few words for the log."""
    text = str(error)
    if isinstance(error, urllib3.exceptions.HTTPError):  # ec2_metadata's own
        return f"answers with {text[:8] if text.startswith('HTTP ') else 'HTTP ' + text[-3:]}"
    if isinstance(error, TimeoutError):
        return "does not answer"
    if isinstance(error, ConnectionResetError | ConnectionAbortedError | http.client.IncompleteRead):
        return "closes the connection without an answer"
    if isinstance(error, OSError):
        return f"cannot be connected to ({error.strerror or text})"
    return f"gives an answer that cannot be used ({type(error).__name__})"
