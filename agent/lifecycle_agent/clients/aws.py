"""boto3 clients as the agent wants them: no retries of their own, and the region every SDK would take.

boto3 (some 200 ms) is imported when a client is made and no sooner.
"""

from __future__ import annotations

import os
import threading
from importlib import import_module
from typing import Any


def prepare() -> None:
    """Begin to import what `make_client` needs, in the background: it takes the longest at a start."""
    threading.Thread(target=import_module, args=("botocore.session",), name="botocore", daemon=True).start()


def make_client(
    service: str, region: str, connect_seconds: float, read_seconds: float, connections: int = 2
) -> Any:
    """A client of a service, with the instance's own credentials.

    Credentials are looked for when a client is made, and one that found none never will: make another.
    Endpoints come from the standard environment, which botocore reads itself.

    Args:
        service: boto3's name for it.
        region: where the environment names none.
        connect_seconds: for a connection.
        read_seconds: of silence, in an answer.
        connections: kept open for the next request, at most.
    """
    import botocore.session
    from botocore.config import Config

    # One for each client: boto3's default session must not be used by two threads at once.
    session = botocore.session.get_session()
    return session.create_client(
        service,
        # botocore itself reads AWS_DEFAULT_REGION alone
        region_name=os.environ.get("AWS_REGION") or session.get_config_variable("region") or region,
        config=Config(
            connect_timeout=connect_seconds,
            read_timeout=read_seconds,
            retries={"total_max_attempts": 1, "mode": "standard"},  # ours know the deadline
            tcp_keepalive=True,
            max_pool_connections=connections,
            # Bodies have a CRC32 of ours: without this botocore would read each again for its SHA-256.
            s3={"payload_signing_enabled": False},
        ),
    )
