"""Which machine this is, where the metadata service does not say it: from the machine itself.

Nothing here is as good as the metadata: an address or a name that other machines have, too, would take their
registrations away. So little is taken, and only what is this instance's alone.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from lifecycle_agent.clients.bounded import within
from lifecycle_agent.clients.event_bridge import INSTANCE_ID
from lifecycle_agent.errors import MetadataUnavailableError
from lifecycle_agent.files import read_regular
from lifecycle_agent.logline import logger
from lifecycle_agent.model import Machine

VARIABLE = "AWS_SSM_INSTANCE_ID"  # the SSM agent sets it for the commands that it runs
ASSET_TAG = "sys/devices/virtual/dmi/id/board_asset_tag"  # Nitro instances have their id in it
CLOUD_INIT = "var/lib/cloud/data/instance-id"

NAME_SECONDS = 1.0  # for one name: a resolver within the VPC answers in a few ms, one out of reach never
SOMEWHERE = "192.0.2.1"  # no machine has it (RFC 5737), and nothing is sent there: it only finds the way out


def machine_itself(
    region: str,
    registries: Sequence[str],
    environ: Mapping[str, str] = os.environ,
    root: Path = Path("/"),
) -> Machine:
    """The machine we are on, without the metadata service.

    Takes `NAME_SECONDS` for each registry at most, and once more.

    Args:
        region: which somebody else has said.
        registries: URLs; the addresses are those with which they are reached.

    Raises:
        MetadataUnavailableError: it does not say which instance it is.
    """
    instance_id = _instance_id(environ, root)
    addresses = tuple(dict.fromkeys(_addresses(registries)))
    return Machine(instance_id, region, addresses, tuple(_names(instance_id, addresses)))


def _instance_id(environ: Mapping[str, str], root: Path) -> str:
    looked = [environ.get(VARIABLE, ""), _first_line(root / ASSET_TAG), _first_line(root / CLOUD_INIT)]
    for word in looked:
        if INSTANCE_ID.fullmatch(word):
            return word
    raise MetadataUnavailableError(
        "the instance metadata service cannot be reached, and nothing else here says which instance this is",
        f"run this on an EC2 instance; {VARIABLE}=i-... says it where neither the board's asset tag"
        " nor cloud-init does",
    )


def _first_line(path: Path) -> str:
    try:
        return read_regular(path, 4096).decode("ascii", "replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _addresses(registries: Sequence[str]) -> Iterator[str]:
    """IPv4 addresses with which this machine reaches its registries, else the world.

    Not those of all its interfaces: bridges of containers have the same ones on every machine.
    """
    for host in [*(urlsplit(url).hostname for url in registries), SOMEWHERE]:
        if host is None:
            continue
        try:
            address = within(NAME_SECONDS, partial(_towards, host))
        except Exception as error:  # no such name, no resolver, no way there: not needed for what follows
            logger.warning("the address towards %s is not known: %s", host, error)
            continue
        if not ipaddress.ip_address(address).is_loopback:
            yield address


def _towards(host: str) -> str:
    """The address that a packet to `host` would have as its source; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((host, 9))
        address: str = way.getsockname()[0]
        return address


def _names(instance_id: str, addresses: Sequence[str]) -> Iterator[str]:
    """The host's name where it is the one that EC2 gives: made of the address, or the instance id.

    Any other may be that of all the machines from one image.
    """
    name = socket.gethostname().lower()
    own = {instance_id, *("ip-" + address.replace(".", "-") for address in addresses)}
    if name.partition(".")[0] in own:
        yield name
