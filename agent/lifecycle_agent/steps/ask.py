"""One HTTP request to the app, limited as a whole: requests itself limits each packet's time only."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from lifecycle_agent.clients.commands import Waiter
from lifecycle_agent.deadline import Deadline

_TICK = (0.005, 0.05)  # seconds between looks, at first and at most: it only delays noticing the end
_MOST_BODY = 4096  # bytes of an answer: an error's text for the log


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Args:
        status: None when there was no answer.
        body: its first 4 KiB.
        problem: why there was none, in a few words.
    """

    status: int | None = None
    body: bytes = b""
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether it is a 2xx."""
        return self.status is not None and 200 <= self.status < 300

    def sentence(self, what: str) -> str:
        """`GET http://... answered 503`, or why it did not; `what` was asked."""
        return f"{what}: {self.problem}" if self.status is None else f"{what} answered {self.status}"


def ask(method: str, url: str, deadline: Deadline, waiter: Waiter) -> Answer:
    """Ask the app, and wait for the whole answer until `deadline`. No redirect is followed, no proxy asked.

    Raises:
        Interrupted: the agent was told to stop.
    """
    limit = deadline.remaining()
    request = _Request(method, url, deadline)
    # A thread that is late is left behind: it cannot hold the process up.
    threading.Thread(target=request.run, name=f"ask {plain(url)}", daemon=True).start()
    tick = _TICK[0]
    while not request.over.is_set() and not deadline.passed:
        waiter.wait(max(0.001, min(tick, deadline.remaining())))
        tick = min(_TICK[1], tick * 1.5)
    return (
        request.answer if request.over.is_set() else Answer(problem=f"no answer within {round(limit, 1):g} s")
    )


def plain(url: str) -> str:
    """A URL without user, password and query: those may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class _Request:
    """The request, in a thread of its own."""

    def __init__(self, method: str, url: str, deadline: Deadline) -> None:
        self._method = method
        self._url = url
        self._deadline = deadline
        self.over = threading.Event()
        self.answer = Answer(problem="no answer")

    def run(self) -> None:
        import requests  # here, for it takes 0.1 s that the steps before this one needn't wait for

        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy, no .netrc: the app is on this machine
                with session.request(
                    self._method,
                    self._url,
                    timeout=max(0.001, self._deadline.remaining()),
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    body = b""
                    # Read to the end, or to where it is enough, for some apps work while they answer.
                    for chunk in answer.iter_content(4096):
                        body += chunk
                        if len(body) >= _MOST_BODY:
                            break
                    self.answer = Answer(answer.status_code, body[:_MOST_BODY])
        except requests.ConnectionError:
            self.answer = Answer(problem="no connection, or it broke off")
        except Exception as error:  # of an odd host name, urllib3 says so in ways of its own
            self.answer = Answer(problem=type(error).__name__)
        finally:
            self.over.set()
