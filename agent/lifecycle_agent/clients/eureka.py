"""The service registry: Eureka's REST operations, as Spring's server and Netflix's own speak them.

What the server does with them is written down, and tried against a real one, in
`tests/contract/test_eureka.py`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from lifecycle_agent.clients.registration import OUT_OF_SERVICE, Key, Registration, parse_all, parse_one
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, UsageError
from lifecycle_agent.model import Machine

# requests is imported by the first call: it takes 95 ms, and who needs only the names here does not pay them.

# Seconds for a connection. One lost SYN is sent again after 1 s; a server that is still silent then is
# one to leave for the next, as the users are waiting.
CONNECT = 2.0
# Seconds for one whole call to one server: what Eureka's own client allows an answer
# (eurekaServerReadTimeoutSeconds = 8).
CALL = 8.0
# The whole registry in one answer: an instance is about 1 KiB of JSON, and Netflix speaks of tens of
# thousands of them. More than this is no registry, or not one to hold in memory while an app drains.
MOST_BYTES = 64 * 1024 * 1024
CHUNK = 64 * 1024


class RegistryError(LifecycleAgentError):
    """The registry could not be reached, or it refused.

    Args:
        status: the HTTP status of the last answer, None when there was none.
    """

    def __init__(self, message: str, hint: str, status: int | None = None) -> None:
        super().__init__(message, hint)
        self.status = status

    @property
    def final(self) -> bool:
        """Whether asking once more, or another server, can't help: the registry understood and said no."""
        return self.status is not None and 300 <= self.status < 500 and self.status not in (408, 429)


@dataclass(frozen=True)
class _Server:
    url: str
    auth: tuple[bytes, bytes] | None


class EurekaClient:
    """Asks one of several registry servers, the one that answered last first.

    No answer, a 5xx, 408 or 429 sends it on to the next server; every other answer is one. Each call is
    bounded as a whole. Calls go straight to the server: `HTTP_PROXY` is meant for what lies outside the
    network, the app's own Eureka client does not heed it either, and `.netrc` holds other people's secrets.

    Args:
        urls: base URLs up to and with `/eureka` (Spring) or `/eureka/v2` (Netflix); user and password
            in one are used and never shown.
        auth: user name and password for all servers whose URL has none.
        ca_file: PEM certificates to trust for https instead of the public ones.
    """

    def __init__(
        self, urls: Sequence[str], auth: tuple[str, str] | None = None, ca_file: str | None = None
    ) -> None:
        if not urls:
            raise UsageError("no registry URL is given", "list them under urls in section [eureka]")
        self._servers = [_server(url, auth) for url in urls]
        self._ca_file = ca_file
        self._preferred = 0

    def find(self, machine: Machine, app: str | None, deadline: Deadline) -> tuple[Registration, ...]:
        """The registrations of `machine`, of one app or of all.

        These come through the server's response cache, so they may be 30 s old: what has registered since
        is missing, what is gone may still be listed.
        """
        path = "apps" if app is None else f"apps/{_quoted(app)}"
        status, found = self._call("GET", path, deadline, parse=lambda body: [*parse_all(json.loads(body))])
        if status == 404:
            # No such app, or no registry there at all? A wrong URL must not look like "nothing to do".
            if app is None or not self._exists(deadline):
                raise self._no_registry("apps")
            return ()
        return tuple(each for each in found if each.belongs_to(machine))

    def get(self, key: Key, deadline: Deadline) -> Registration | None:
        """One registration as it is now, past the response cache; None when there is none."""
        path = _path(key)
        status, found = self._call(
            "GET", path, deadline, parse=lambda body: parse_one(json.loads(body)["instance"], key.app)
        )
        if status == 404:
            return None
        registration: Registration = found
        return registration

    def out_of_service(self, key: Key, deadline: Deadline) -> bool:
        """Keep callers away from it, whatever the app says; False when it is not registered."""
        return self._call("PUT", f"{_path(key)}/status?value={OUT_OF_SERVICE}", deadline)[0] != 404

    def remove_override(self, key: Key, deadline: Deadline) -> bool:
        """Let the app's own status count again; False when it is not registered.

        The status is UNKNOWN then until the next renewal, which the server answers with 404, so that the
        app registers again with its true one. (`?value=UP` would save that wait by claiming it for the app.)
        """
        return self._call("DELETE", f"{_path(key)}/status", deadline)[0] != 404

    def deregister(self, key: Key, deadline: Deadline) -> bool:
        """Delete it, and its override with it; False when it was gone already."""
        return self._call("DELETE", _path(key), deadline)[0] != 404

    def register(self, instance: Mapping[str, Any], deadline: Deadline) -> None:
        """Register an instance.

        Args:
            instance: Eureka's InstanceInfo in JSON, with at least app, hostName, ipAddr and dataCenterInfo.
        """
        document = json.dumps({"instance": instance}).encode()
        path = f"apps/{_quoted(str(instance['app']).upper())}"
        status, _ = self._call("POST", path, deadline, document)
        if status == 404:
            raise self._no_registry(path)

    def renew(self, key: Key, deadline: Deadline) -> bool:
        """Renew its lease; False when it has to be registered anew.

        That is so when it is not registered, and after its override was removed.
        """
        return self._call("PUT", _path(key), deadline)[0] != 404

    def _exists(self, deadline: Deadline) -> bool:
        try:
            return self._call("HEAD", "apps", deadline)[0] != 404
        except RegistryError as error:
            if error.final:  # a proxy that refuses HEAD: somebody is there
                return True
            raise

    def _no_registry(self, path: str) -> RegistryError:
        return RegistryError(
            f"there is no registry at {self._url(path)} (404)",
            "a base URL ends in /eureka with Spring's server, in /eureka/v2 with Netflix's own",
            404,
        )

    def _url(self, path: str) -> str:
        return f"{self._servers[self._preferred].url}/{path}"

    def _call(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        body: bytes | None = None,
        parse: Callable[[bytes], Any] = bytes,
    ) -> tuple[int, Any]:
        """Status (2xx or 404) and what `parse` makes of a 2xx's body, from the first server that has them."""
        last: RegistryError | None = None
        for turn in range(count := len(self._servers)):
            if deadline.passed:
                break
            index = (self._preferred + turn) % count
            # A silent server must leave time for the ones after it.
            share = min(CALL, deadline.remaining() / (count - turn))
            try:
                status, said = self._ask(self._servers[index], method, path, deadline.within(share), body)
                with _understanding(f"{self._servers[index].url}/{path}"):
                    answer = None if status == 404 else parse(said)
            except RegistryError as error:
                if last is None or last.final or not error.final:
                    last = error  # for good only if every one of them says so
                continue
            self._preferred = index
            return status, answer
        raise last or RegistryError(
            f"no time was left to ask the registry at {self._url(path)}", "give the transition more time"
        )

    def _ask(
        self, server: _Server, method: str, path: str, deadline: Deadline, body: bytes | None
    ) -> tuple[int, bytes]:
        """One call to one server, in a thread that is left behind when it is late.

        A timeout of requests is one of each single read, and none of name resolution: only somebody who
        watches from outside can bound the whole.
        """
        url = f"{server.url}/{path}"
        result: list[tuple[int, bytes] | Exception] = []

        def run() -> None:
            try:
                result.append(_exchange(server, method, url, self._ca_file, deadline, body))
            except Exception as error:  # handed over to the caller's thread
                result.append(error)

        thread = threading.Thread(target=run, name="eureka", daemon=True)
        thread.start()
        thread.join(deadline.remaining())
        match result:
            case [tuple() as answer]:
                status = answer[0]
            case [RegistryError() as error]:
                raise error
            case [Exception() as error]:
                raise _unreachable(method, url, error) from error
            case _:
                raise RegistryError(f"{method} {url}: no whole answer in time", "is the registry overloaded?")
        if 200 <= status < 300 or status == 404:
            return answer
        raise RegistryError(f"{method} {url}: the registry answered {status}", _hint(status), status)


@contextmanager
def _understanding(url: str) -> Iterator[None]:
    """What goes wrong inside is an answer that makes no sense."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RegistryError(
            f"GET {url}: the answer is not a registry's JSON", "does the URL lead to Eureka itself?"
        ) from error


def _exchange(
    server: _Server, method: str, url: str, ca_file: str | None, deadline: Deadline, body: bytes | None
) -> tuple[int, bytes]:
    """Send, and read the whole answer, piece by piece so that a late or endless one is given up.

    A session of its own: calls are few, and a thread left behind shares nothing with the next call.
    """
    import requests

    with requests.Session() as session:
        session.trust_env = False
        with session.request(
            method,
            url,
            data=body,
            headers={"Accept": "application/json", "Content-Type": "application/json"},
            auth=requests.auth.HTTPBasicAuth(*server.auth) if server.auth else None,
            verify=ca_file or True,
            timeout=(deadline.timeout(CONNECT), deadline.timeout(CALL)),
            allow_redirects=False,
            stream=True,
        ) as response:
            content = bytearray()
            for chunk in response.iter_content(CHUNK):
                content += chunk
                if deadline.passed:
                    raise RegistryError(
                        f"{method} {url}: no whole answer in time", "is the registry overloaded?"
                    )
                if len(content) > MOST_BYTES:
                    raise RegistryError(
                        f"{method} {url}: the answer is longer than {MOST_BYTES >> 20} MiB",
                        "set app in section [eureka], so that one app's registrations are asked for, not all",
                    )
            return response.status_code, bytes(content)


def _unreachable(method: str, url: str, error: Exception) -> RegistryError:
    """What requests says, without the URL's query and the object addresses in it."""
    import requests

    match error:
        case requests.exceptions.SSLError():
            why = "the TLS handshake failed"
            hint = "ca_file in section [eureka] must name the certificate authority of the registry"
        case requests.Timeout():
            why, hint = "no answer in time", "is the registry up, and do the security groups let us through?"
        case requests.ConnectionError():
            why, hint = "no connection", "is the registry up, and is the URL in section [eureka] right?"
        case OSError() if not isinstance(error, requests.RequestException):
            why, hint = str(error), "ca_file in section [eureka] must name a readable file of certificates"
        case _:
            why, hint = f"{type(error).__name__}", "is the URL in section [eureka] right?"
    return RegistryError(f"{method} {url}: {why}", hint)


def _hint(status: int) -> str:
    if status in (401, 403):
        return "look at username and password_file in section [eureka]"
    if 300 <= status < 400:
        return "redirects are not followed: give the URL that they lead to"
    if status >= 500:
        return "the registry's own log says why"
    return "does the URL lead to Eureka itself?"


def _server(url: str, auth: tuple[str, str] | None) -> _Server:
    """Takes user and password out of the URL, so that what is left can be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    place = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("http", "https") or not place:
        shown = "one of them" if "@" in url else repr(url)
        raise UsageError(
            f"[eureka] urls: {shown} is no registry URL", 'write it like "http://eureka:8761/eureka"'
        )
    if parts.username is not None:
        auth = (unquote(parts.username), unquote(parts.password or ""))
    # As bytes: requests would turn text into Latin-1.
    credentials = None if auth is None else (auth[0].encode(), auth[1].encode())
    return _Server(f"{parts.scheme}://{place}{parts.path.rstrip('/')}", credentials)


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _path(key: Key) -> str:
    return f"apps/{_quoted(key.app)}/{_quoted(key.instance_id)}"
