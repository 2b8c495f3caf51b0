"""Keeps the registration of an app alive that has no Eureka client of its own, while it is in service.

In a thread for each renewal, so that no registry, however slow, and no name that can't be looked up holds the
watcher up. An app that does not answer is not renewed: its lease ends by itself, as with a client inside it.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import random
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any
from urllib.parse import quote

from lifecycle_agent import registrant
from lifecycle_agent.config import EurekaSection, RegisterSection
from lifecycle_agent.deadline import Clock, Deadline, boottime
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.http_call import call
from lifecycle_agent.logline import logger
from lifecycle_agent.model import Machine

# Seconds for one renewal, with the look at the app and a new registration: three fit between two renewals
# of a lease as usual (90 s).
ROUND_SECONDS = 5.0
# All instances of an app in one answer: an instance is some 2 KiB of JSON.
MOST_BYTES = 1024 * 1024

Answers = Callable[[RegisterSection, Machine, Deadline], bool]


class _State(Enum):
    """What came of a renewal."""

    HELD = "held"
    LEFT = "left to the app"
    SILENT = "the app is silent"
    TROUBLE = "the registry does not take it"


class _NotTaken(Exception):
    """The registry could not be reached, or refused."""


class Lease:
    """The app's lease.

    Args:
        config: nothing is done where it has no `[eureka.register]`.
        answers: whether the app is there.
    """

    def __init__(
        self, config: EurekaSection, clock: Clock = boottime, answers: Answers = registrant.answers
    ) -> None:
        self._config = config
        self._clock = clock
        self._answers = answers
        self._headers = _headers(config)
        self._turn = 0  # which of the registry's servers is asked
        self._thread: threading.Thread | None = None
        self._wanted = False
        self._was_out = True
        self._due = 0.0
        self._ours: bool | None = None  # None until it is known who registers the app
        self._state: _State | None = None

    def check(self, machine: Machine, in_service: bool) -> None:
        """Renew the lease if it is time to, and all is quiet. Never blocks, never raises.

        Args:
            in_service: whether the app is to be in service, and no transition is at work on it.
        """
        section = self._config.register
        if section is None:
            return
        self._wanted = in_service
        self._was_out |= not in_service
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = None
        if self._was_out:  # who registers the app may be another one now
            self._due, self._ours, self._state = 0.0, None, None
            self._was_out = False
        if in_service and self._clock() >= self._due:
            thread = threading.Thread(target=self._run, args=(section, machine), daemon=True, name="lease")
            try:
                thread.start()
            except RuntimeError as error:  # no thread to be had: may pass
                self._conclude(section, _State.TROUBLE, f"the app's lease is not renewed: {error}")
            else:
                self._thread = thread

    def _run(self, section: RegisterSection, machine: Machine) -> None:
        """One renewal. While it lasts, everything but `_wanted` is this thread's."""
        try:
            state, sentence = self._renew(section, machine)
        except _NotTaken as error:
            self._turn += 1
            state, sentence = _State.TROUBLE, f"the app's lease is not renewed: {error}"
        except LifecycleAgentError as error:
            state, sentence = _State.TROUBLE, f"the app's lease is not renewed: {error}; {error.hint}"
        except Exception as error:  # whatever it is, the next one may go well
            state, sentence = _State.TROUBLE, f"the app's lease is not renewed: {error!r}"
        self._conclude(section, state, sentence)

    def _conclude(self, section: RegisterSection, state: _State, sentence: str) -> None:
        """Say what is new, and when to look again: sooner after a failure, and not with the whole fleet."""
        if state is not self._state:
            well = state in (_State.HELD, _State.LEFT)
            (logger.info if well else logger.warning)("%s", sentence)
        self._state = state
        pause = section.renew_every
        if state is _State.LEFT:
            pause = math.inf  # until it has been out of service
        elif state is not _State.HELD:
            pause *= random.uniform(0.25, 0.33)  # noqa: S311 - to spread a fleet, not to keep a secret
        self._due = self._clock() + pause

    def _renew(self, section: RegisterSection, machine: Machine) -> tuple[_State, str]:
        deadline = Deadline.after(ROUND_SECONDS)
        instance = registrant.document(section, self._config.app, machine)
        name = f"{instance['app']}/{instance['instanceId']}"
        if not self._answers(section, machine, deadline):
            silent = f"the app does not answer on port {section.port}"
            return _State.SILENT, f"{silent}: its lease is not renewed, and ends by itself"
        if self._ours is None:
            own = self._registered_by_the_app(instance, deadline)
            self._ours = own is None
            if own is not None:
                return _State.LEFT, f"the app registers itself, as {own}: its lease is left to it"
        if self._ask("PUT", _path(instance), deadline)[0] == 404 and self._wanted:
            body = json.dumps({"instance": instance}).encode()
            path = f"apps/{_quoted(instance['app'])}"
            if self._ask("POST", path, deadline, body)[0] == 404:
                raise _NotTaken(f"there is no registry at {self._url(path)} (404)")
            logger.info("registered as %s: the registry did not have it", name)
        return _State.HELD, f"the lease of {name} is renewed every {section.renew_every:.3g} s"

    def _registered_by_the_app(self, instance: Mapping[str, Any], deadline: Deadline) -> str | None:
        """The id under which the app registers itself; None when it does not."""
        if (known := self._get(instance, deadline)) is not None:
            return None if registrant.is_ours(known) else str(instance["instanceId"])
        status, body = self._ask("GET", f"apps/{_quoted(instance['app'])}", deadline)
        if status == 404 or len(body) > MOST_BYTES:  # then nobody can say
            return None
        port = registrant.ports(instance)
        for each in _instances(_parsed(body)):
            same = each.get("ipAddr") == instance["ipAddr"] and set(port) & {*registrant.ports(each)}
            # What is listed may be gone: the list is some 30 s old.
            if same and not registrant.is_ours(each) and self._get(each, deadline) is not None:
                return str(each["instanceId"])
        return None

    def _get(self, instance: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any] | None:
        """What the registry has of an instance now."""
        status, body = self._ask("GET", _path(instance), deadline)
        if status == 404:
            return None
        found = _parsed(body).get("instance")
        if not isinstance(found, Mapping):
            raise _NotTaken("the answer is not a registry's JSON: does the URL lead to Eureka itself?")
        return found

    def _ask(
        self, method: str, path: str, deadline: Deadline, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Status, 2xx or 404, and body.

        Raises:
            _NotTaken: there is no such answer.
        """
        url = self._url(path)
        try:
            context = None
            if url.startswith("https:"):
                context = ssl.create_default_context(cafile=self._config.ca_file)
            status, answer = call(method, url, deadline, MOST_BYTES, self._headers, body, context)
        except ssl.SSLError as error:
            why = "ca_file in section [eureka] must name the certificate authority of the registry"
            raise _NotTaken(f"{method} {url}: the TLS handshake failed: {why}") from error
        except TimeoutError as error:
            raise _NotTaken(f"{method} {url}: no answer in time") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _NotTaken(f"{method} {url}: {error}") from error
        if 200 <= status < 300 or status == 404:
            return status, answer
        where = ": look at username and password_file in section [eureka]" if status in (401, 403) else ""
        raise _NotTaken(f"{method} {url}: the registry answered {status}{where}")

    def _url(self, path: str) -> str:
        urls = self._config.urls
        return f"{urls[self._turn % len(urls)]}/{path}"


def _headers(config: EurekaSection) -> dict[str, str]:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if config.username and config.password_file is not None:
        both = f"{config.username}:{config.password_file.value}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(both).decode()}"
    return headers


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, Mapping):
        raise _NotTaken("the answer is not a registry's JSON: does the URL lead to Eureka itself?")
    return document


def _instances(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every instance in the answer to GET apps/APP; some serializers write a list of one as the one."""
    app = document.get("application")
    listed = app.get("instance") if isinstance(app, Mapping) else None
    for each in listed if isinstance(listed, list) else [listed]:
        if isinstance(each, Mapping) and each.get("instanceId"):
            yield {"app": app.get("name") if isinstance(app, Mapping) else "", **each}


def _path(instance: Mapping[str, Any]) -> str:
    return f"apps/{_quoted(str(instance['app']))}/{_quoted(str(instance['instanceId']))}"


def _quoted(text: str) -> str:
    return quote(text, safe="")
