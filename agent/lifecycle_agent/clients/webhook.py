"""A webhook: one POST of JSON to an address that is itself the secret, so that nothing here ever says it."""

from __future__ import annotations

import email.utils
import errno
import logging
import os
import random
import time
from collections.abc import Mapping
from typing import Any

import requests

from lifecycle_agent.config import Secret
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError

# One try. Slack answers in well under a second; a proxy that has to wake up takes a few.
TRY_SECONDS = 5.0
# The pause before the second try, doubled for each one after that, jittered.
FIRST_PAUSE = 0.5

# urllib3 writes each request's path at DEBUG, and the path is the secret.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


class WebhookError(LifecycleAgentError):
    """The message could not be delivered. The text has no part of the address in it.

    Args:
        passing: whether another try may help.
        after: seconds to wait before it, where the other side said so.
    """

    def __init__(self, message: str, hint: str, passing: bool = False, after: float | None = None) -> None:
        super().__init__(message, hint)
        self.passing = passing
        self.after = after


class Webhook:
    """Somewhere to post to.

    Args:
        url: whoever knows it can post.
    """

    def __init__(self, url: Secret) -> None:
        self._url = url

    def post(self, document: Mapping[str, Any], deadline: Deadline) -> None:
        """Post `document`, again after 429, 5xx and lost connections, as long as the deadline allows.

        A try may outlast the deadline where the other side answers byte by byte: call it from a
        thread that can be left behind.

        Raises:
            WebhookError: it was not taken.
        """
        pause = FIRST_PAUSE
        while True:
            failure = self._try(document, deadline)
            if failure is None:
                return
            wait = max(random.uniform(pause / 2, pause), failure.after or 0.0)  # noqa: S311
            if not failure.passing or wait >= deadline.remaining():
                raise failure
            time.sleep(wait)
            pause *= 2

    def _try(self, document: Mapping[str, Any], deadline: Deadline) -> WebhookError | None:
        """One POST: what went wrong, if anything did. Returned, so that no library's text is chained."""
        try:
            answer = requests.post(
                self._url.value,
                json=document,
                timeout=deadline.timeout(TRY_SECONDS),
                allow_redirects=False,  # the message is for this address and no other
                stream=True,  # the status is all that is read, however long the answer
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            passing = not isinstance(error, requests.exceptions.SSLError)
            return WebhookError(f"webhook: {_why(error)}", "check the route and url_file's address", passing)
        except (requests.RequestException, ValueError):
            return WebhookError("webhook: its address is no usable URL", "check the file url_file names")
        with answer:
            status, after = answer.status_code, answer.headers.get("Retry-After", "")
        if 200 <= status < 300:
            return None
        hint = "check that url_file's address is still valid"
        passing = status == 429 or status >= 500
        return WebhookError(f"webhook: answered {status}", hint, passing, _seconds(after))


def _why(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "the certificate is not accepted"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    number = _errno(error)
    return f"no connection: {os.strerror(number)}" if number else "no connection, or it was lost"


def _errno(error: BaseException) -> int | None:
    """The system's error number at the bottom of the libraries' wrapping, if one is there."""
    seen: list[BaseException] = [error]
    for cause in seen:
        if isinstance(cause, OSError) and cause.errno in errno.errorcode:
            return cause.errno
        inner = (getattr(cause, "reason", None), cause.__context__, *cause.args)
        seen += [one for one in inner if isinstance(one, BaseException) and one not in seen]
    return None


def _seconds(retry_after: str) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3: a number or a date), None if it says nothing."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
