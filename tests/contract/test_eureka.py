"""What the agent relies on in Eureka, tried on a real server and on the emulated one.

Raw requests say what the server does; our client runs the same ways. A test here that fails for one of the
two is either a fact that changed or an emulation that drifted.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import pytest
import requests

from lifecycle_agent import registrant
from lifecycle_agent.clients.eureka import EurekaClient, RegistryError
from lifecycle_agent.clients.registration import Key
from lifecycle_agent.config import EurekaSection, RegisterSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.model import Machine
from lifecycle_agent.watch.lease import Lease

MACHINE = Machine("i-0123456789abcdef0", "eu-west-1", ("10.0.0.5",), ("host-a",))
JSON = {"Accept": "application/json"}
_numbers = itertools.count(1)


def soon() -> Deadline:
    return Deadline.after(20)


def eventually(true: Callable[[], object]) -> None:
    """Wait for what the server does in its own time."""
    give_up = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up, "it never came to be"
        time.sleep(0.02)


class Raw:
    """A registry's REST operations for an app and an instance of the test's own, without our client."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = self.id = ""
        self.rename()
        self.session = requests.Session()

    def rename(self) -> None:
        """Take names that nobody had before; overrides go by the id alone."""
        self.app = f"APP{next(_numbers)}"
        self.id = f"10.0.0.5:{self.app}:8080"

    @property
    def key(self) -> Key:
        return Key(self.app, self.id)

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, f"{self.url}/{path}", **{"headers": JSON, "timeout": 20, **more})

    def document(self, **more: Any) -> dict[str, Any]:
        """An InstanceInfo; a field that is given as None is left out."""
        basis = {
            "instanceId": self.id,
            "app": self.app,
            "hostName": "host-a",
            "ipAddr": "10.0.0.5",
            "status": "UP",
            "port": {"$": 8080, "@enabled": "true"},
            "vipAddress": "orders",
            "dataCenterInfo": {
                "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
                "name": "MyOwn",
            },
        }
        return {name: value for name, value in {**basis, **more}.items() if value is not None}

    def register(self, **more: Any) -> requests.Response:
        return self.call("POST", f"apps/{self.app}", json={"instance": self.document(**more)})

    def renew(self, query: str = "") -> int:
        return self.call("PUT", f"apps/{self.app}/{self.id}{query}").status_code

    def override(self, value: str) -> int:
        return self.call("PUT", f"apps/{self.app}/{self.id}/status?value={value}").status_code

    def remove_override(self, query: str = "") -> int:
        return self.call("DELETE", f"apps/{self.app}/{self.id}/status{query}").status_code

    def delete(self) -> int:
        return self.call("DELETE", f"apps/{self.app}/{self.id}").status_code

    def get(self) -> requests.Response:
        return self.call("GET", f"apps/{self.app}/{self.id}")

    def instance(self) -> Mapping[str, Any]:
        document: Mapping[str, Any] = self.get().json()["instance"]
        return document

    def status(self) -> tuple[str, str]:
        """The status and the overridden status."""
        instance = self.instance()
        return instance["status"], instance["overriddenStatus"]

    def listed(self) -> list[str]:
        """The statuses of the app's instances as callers see them, through the cache."""
        answer = self.call("GET", f"apps/{self.app}")
        if answer.status_code == 404:
            return []
        return [each["status"] for each in answer.json()["application"]["instance"]]


@pytest.fixture
def raw(registry_url: str) -> Raw:
    return Raw(registry_url)


@pytest.fixture
def client(registry_url: str) -> EurekaClient:
    return EurekaClient([registry_url])


# Registering and renewing


def test_a_registration_is_answered_204_and_the_app_is_upper_case(raw: Raw) -> None:
    lower = raw.document(app=raw.app.lower())
    assert raw.call("POST", f"apps/{raw.app.lower()}", json={"instance": lower}).status_code == 204
    assert raw.instance()["app"] == raw.app
    assert raw.call("GET", f"apps/{raw.app.lower()}/{raw.id}").json() == raw.get().json()
    assert raw.call("GET", f"apps/{raw.app.lower()}").status_code == 200


@pytest.mark.parametrize("field", ["hostName", "ipAddr", "app"])
def test_a_blank_field_is_answered_400(raw: Raw, field: str) -> None:
    assert raw.register(**{field: ""}).status_code == 400
    assert raw.get().status_code == 404


@pytest.mark.parametrize("center", [None, {"name": "MyOwn"}, ""])
def test_a_data_center_without_its_class_is_answered_400(raw: Raw, center: object) -> None:
    assert raw.register(dataCenterInfo=center).status_code == 400


def test_another_apps_registration_is_answered_400(raw: Raw) -> None:
    assert raw.register(app="ANOTHER").status_code == 400


def test_what_is_no_registration_is_answered_400(raw: Raw) -> None:
    kind = {"Content-Type": "application/json"}
    assert raw.call("POST", f"apps/{raw.app}", data="junk", headers=kind).status_code == 400


def test_a_renewal_is_answered_200_and_404_tells_the_app_to_register_again(raw: Raw) -> None:
    assert raw.renew() == 404
    raw.register()
    assert raw.renew() == 200
    dirty = int(raw.instance()["lastDirtyTimestamp"])
    assert raw.renew(f"?status=UP&lastDirtyTimestamp={dirty}") == 200
    assert raw.renew(f"?status=UP&lastDirtyTimestamp={dirty + 5}") == 404


def test_an_older_word_changes_nothing(raw: Raw) -> None:
    raw.register(status="STARTING", lastDirtyTimestamp="2000")
    raw.register(status="UP", lastDirtyTimestamp="1000")
    assert raw.status() == ("STARTING", "UNKNOWN")


def test_the_answer_has_the_shape_that_clients_read(raw: Raw) -> None:
    raw.register(leaseInfo={"renewalIntervalInSecs": 7, "durationInSecs": 21}, metadata={"zone": "a"})
    instance = raw.instance()
    assert raw.document().items() <= {**instance, "app": raw.app}.items()
    assert instance["leaseInfo"]["renewalIntervalInSecs"] == 7
    assert instance["metadata"] == {"zone": "a"}
    assert instance["actionType"] == "ADDED"
    assert isinstance(instance["lastDirtyTimestamp"], str)
    assert raw.call("GET", f"instances/{raw.id}").json()["instance"]["instanceId"] == raw.id


def test_without_an_id_an_instance_is_named_after_the_machine_or_else_the_host(raw: Raw) -> None:
    amazon = {
        "@class": "com.netflix.appinfo.AmazonInfo",
        "name": "Amazon",
        "metadata": {"instance-id": MACHINE.instance_id},
    }
    assert raw.register(instanceId=None).status_code == 204
    assert raw.register(instanceId=None, dataCenterInfo=amazon).status_code == 204
    found = EurekaClient([raw.url]).find(MACHINE, raw.app, soon())
    assert {each.instance_id for each in found} == {"host-a", MACHINE.instance_id}
    for each in found:
        assert raw.call("GET", f"apps/{raw.app}/{each.instance_id}").status_code == 200


@pytest.mark.parametrize("accept", ["*/*", None])
def test_only_who_asks_for_json_gets_it(raw: Raw, accept: str | None) -> None:
    raw.register()
    answer = raw.call("GET", f"apps/{raw.app}/{raw.id}", headers={"Accept": accept})
    assert "json" not in answer.headers["Content-Type"]


# The override


def test_out_of_service_outlives_renewals_and_registrations(raw: Raw) -> None:
    raw.register()
    assert raw.override("OUT_OF_SERVICE") == 200
    assert raw.status() == ("OUT_OF_SERVICE", "OUT_OF_SERVICE")
    assert raw.renew("?status=UP") == 200
    raw.register()
    assert raw.renew() == 200
    assert raw.status() == ("OUT_OF_SERVICE", "OUT_OF_SERVICE")
    assert raw.override("OUT_OF_SERVICE") == 200


@pytest.mark.parametrize("word", ["DOWN", "STARTING"])
def test_an_app_that_registers_as_down_or_starting_is_shown_so_until_it_is_up(raw: Raw, word: str) -> None:
    raw.register()
    raw.override("OUT_OF_SERVICE")
    raw.register(status=word)
    assert raw.status() == (word, "OUT_OF_SERVICE")
    assert raw.renew() == 200
    raw.register()
    assert raw.status() == ("OUT_OF_SERVICE", "OUT_OF_SERVICE")


def test_the_status_in_a_renewal_is_not_looked_at(raw: Raw) -> None:
    raw.register()
    assert raw.renew("?status=DOWN") == 200
    assert raw.status() == ("UP", "UNKNOWN")


@pytest.mark.parametrize("value", ["BOGUS", "out_of_service", ""])
def test_a_bad_status_is_answered_500(raw: Raw, value: str) -> None:
    raw.register()
    assert raw.override(value) == 500
    assert raw.remove_override("?value=BOGUS") == 500
    assert raw.status() == ("UP", "UNKNOWN")


def test_an_unknown_instance_is_answered_404(raw: Raw) -> None:
    assert raw.override("OUT_OF_SERVICE") == 404
    assert raw.override("BOGUS") == 404
    assert raw.remove_override() == 404
    assert raw.delete() == 404
    assert raw.get().status_code == 404
    assert raw.call("GET", f"instances/{raw.app}-nobody").status_code == 404


def test_a_removed_override_leaves_unknown_and_makes_the_app_register_again(raw: Raw) -> None:
    raw.register()
    raw.override("OUT_OF_SERVICE")
    assert raw.remove_override() == 200
    assert raw.status() == ("UNKNOWN", "UNKNOWN")
    assert raw.renew() == 404
    raw.register()
    assert raw.status() == ("UP", "UNKNOWN")
    assert raw.remove_override() == 200, "removing what is not there changes nothing"
    assert raw.status() == ("UP", "UNKNOWN")


def test_a_removed_override_can_suggest_a_status(raw: Raw) -> None:
    raw.register()
    raw.override("OUT_OF_SERVICE")
    assert raw.remove_override("?value=UP") == 200
    assert raw.status() == ("UP", "UNKNOWN")
    assert raw.renew() == 200


def test_an_app_that_is_out_of_service_by_itself_gets_no_override(raw: Raw) -> None:
    raw.register(status="OUT_OF_SERVICE")
    assert raw.override("OUT_OF_SERVICE") == 200
    assert raw.status() == ("OUT_OF_SERVICE", "UNKNOWN")
    raw.register()
    assert raw.status() == ("OUT_OF_SERVICE", "UNKNOWN"), "and stays so until its lease has ended"


def test_an_override_goes_by_the_id_alone_whichever_the_app(raw: Raw) -> None:
    other = Raw(raw.url)
    other.id = raw.id
    raw.register()
    raw.override("OUT_OF_SERVICE")
    other.register()
    assert other.status() == ("OUT_OF_SERVICE", "OUT_OF_SERVICE")
    other.delete()
    assert raw.status() == ("OUT_OF_SERVICE", "OUT_OF_SERVICE")
    raw.register()
    assert raw.status() == ("OUT_OF_SERVICE", "UNKNOWN"), "the override went with the other app's lease"


# The end of a lease


def test_a_deletion_takes_lease_and_override_and_a_living_app_comes_back_up(raw: Raw) -> None:
    raw.register()
    raw.override("OUT_OF_SERVICE")
    assert raw.delete() == 200
    assert raw.get().status_code == 404
    assert raw.delete() == 404
    assert raw.renew() == 404
    raw.register()
    assert raw.status() == ("UP", "UNKNOWN")


def test_a_lease_that_is_not_renewed_is_evicted(raw: Raw) -> None:
    raw.register(leaseInfo={"renewalIntervalInSecs": 1, "durationInSecs": 1})
    eventually(lambda: raw.get().status_code == 404)


def test_a_renewal_puts_the_lease_a_whole_duration_ahead(raw: Raw) -> None:
    raw.register(leaseInfo={"renewalIntervalInSecs": 30, "durationInSecs": 90})
    fresh = raw.instance()["leaseInfo"]
    assert fresh["lastRenewalTimestamp"] == fresh["registrationTimestamp"]
    raw.renew()
    renewed = raw.instance()["leaseInfo"]
    assert renewed["lastRenewalTimestamp"] - renewed["registrationTimestamp"] >= 90_000


# The response cache


def test_what_callers_see_lags_behind_and_the_instance_itself_does_not(raw: Raw) -> None:
    def lags() -> bool:
        raw.register()
        eventually(lambda: raw.listed() == ["UP"])
        raw.override("OUT_OF_SERVICE")
        assert raw.status()[0] == "OUT_OF_SERVICE"
        lagged = raw.listed() == ["UP"]  # unless the cache was just refreshed
        eventually(lambda: raw.listed() == ["OUT_OF_SERVICE"])
        raw.delete()
        return lagged

    eventually(lags)


def test_that_there_is_no_such_app_is_cached_as_well(raw: Raw) -> None:
    def lags() -> bool:
        raw.rename()
        assert raw.listed() == []
        raw.register()
        assert raw.get().status_code == 200
        lagged = raw.listed() == []
        eventually(lambda: raw.listed() == ["UP"])
        return lagged

    eventually(lags)


def test_all_apps_come_with_a_version_and_a_hash_code_of_their_statuses(raw: Raw) -> None:
    raw.register()

    def everything() -> Mapping[str, Any]:
        document: Mapping[str, Any] = raw.call("GET", "apps").json()["applications"]
        return document

    eventually(lambda: raw.app in [each["name"] for each in everything()["application"]])
    listing = everything()
    counts = Counter(one["status"] for each in listing["application"] for one in each["instance"])
    assert listing["versions__delta"] == "1"
    assert listing["apps__hashcode"] == "".join(f"{word}_{counts[word]}_" for word in sorted(counts))


def test_the_delta_says_what_changed(raw: Raw) -> None:
    def actions() -> list[str]:
        listing = raw.call("GET", "apps/delta").json()["applications"]
        assert int(listing["versions__delta"]) >= 1
        return [
            one["actionType"]
            for each in listing["application"]
            if each["name"] == raw.app
            for one in each["instance"]
        ]

    raw.register()
    eventually(lambda: actions() == ["ADDED"])
    raw.delete()
    eventually(lambda: "DELETED" in actions())


# Our client


def test_the_clients_whole_round(raw: Raw, client: EurekaClient) -> None:
    key = raw.key
    assert client.find(MACHINE, raw.app, soon()) == ()
    client.register(raw.document(), soon())
    eventually(lambda: [each.key for each in client.find(MACHINE, raw.app, soon())] == [key])
    eventually(lambda: key in [each.key for each in client.find(MACHINE, None, soon())])
    assert client.out_of_service(key, soon())
    gone = client.get(key, soon())
    assert gone is not None
    assert (gone.status, gone.overridden_status, gone.out_of_service) == (*["OUT_OF_SERVICE"] * 2, True)
    assert (gone.address, gone.host_name) == ("10.0.0.5", "host-a")
    assert client.remove_override(key, soon())
    assert client.deregister(key, soon())
    assert client.get(key, soon()) is None


def test_what_is_gone_is_no_error_for_the_client(raw: Raw, client: EurekaClient) -> None:
    key = raw.key
    assert not client.deregister(key, soon())
    assert not client.out_of_service(key, soon())
    assert not client.remove_override(key, soon())


def test_the_client_finds_this_machines_registrations_alone(raw: Raw, client: EurekaClient) -> None:
    raw.register(instanceId="by-address", hostName="elsewhere")
    raw.register(instanceId="by-host", ipAddr="10.9.9.9", hostName="HOST-A")
    raw.register(instanceId=f"{MACHINE.instance_id}:8080", ipAddr="10.9.9.9", hostName="elsewhere")
    raw.register(instanceId="i-0ffffffffffffffff:8080")
    raw.register(instanceId="another", ipAddr="10.9.9.9", hostName="elsewhere")
    found = {each.instance_id for each in client.find(MACHINE, raw.app, soon())}
    assert found == {"by-address", "by-host", f"{MACHINE.instance_id}:8080"}


@pytest.mark.parametrize("id_", ["10.0.0.5:orders:8080", "a b+c", "ü;x=1", "50%25", "a?b#c&d", "{x}[y]"])
def test_ids_with_odd_characters(raw: Raw, client: EurekaClient, id_: str) -> None:
    raw.register(instanceId=id_)
    key = Key(raw.app, id_)
    assert [each.key for each in client.find(MACHINE, raw.app, soon())] == [key]
    assert client.out_of_service(key, soon())
    found = client.get(key, soon())
    assert found is not None
    assert found.instance_id == id_
    assert client.deregister(key, soon())


def test_an_id_with_a_slash_can_not_be_reached_and_that_is_said(raw: Raw, client: EurekaClient) -> None:
    raw.register(instanceId="a/b")
    assert raw.call("GET", f"apps/{raw.app}/{quote('a/b', safe='')}").status_code == 400
    with pytest.raises(RegistryError, match="400"):
        client.deregister(Key(raw.app, "a/b"), soon())


def test_the_base_url_of_netflix_own_server_works_as_well(raw: Raw) -> None:
    raw.register()
    client = EurekaClient([f"{raw.url}/v2/"])
    assert [each.app for each in client.find(MACHINE, raw.app, soon())] == [raw.app]
    assert client.out_of_service(raw.key, soon())


# What the agent registers for an app that does not do it itself


def section(**more: Any) -> RegisterSection:
    return RegisterSection(**{"port": 8080, **more})


@pytest.mark.parametrize(
    "configured",
    [
        section(),
        section(secure=True, vip="a.b:8080,c", health_path="/h", status_path="/s", lease=10.5),
        section(metadata={"zone": "a", "management.port": "9090", "_x-y": "1 < 2 & ü"}),
    ],
)
def test_the_agents_document_is_taken_and_comes_back_as_it_was(
    raw: Raw, client: EurekaClient, configured: RegisterSection
) -> None:
    document = registrant.document(configured, raw.app, MACHINE)
    client.register(document, soon())
    raw.id = document["instanceId"]
    shown = raw.instance()
    same = {name: value for name, value in document.items() if name != "leaseInfo"}
    assert {name: shown[name] for name in same} == same
    assert document["leaseInfo"].items() <= shown["leaseInfo"].items()
    eventually(lambda: client.find(MACHINE, raw.app, soon()))
    (found,) = client.find(MACHINE, raw.app, soon())
    assert (found.key, found.ec2_instance_id) == (raw.key, MACHINE.instance_id)
    assert (found.status, found.ports, found.by_agent) == ("UP", (8080,), True)
    assert client.renew(raw.key, soon())


def test_an_apps_own_registration_is_not_taken_for_the_agents(raw: Raw, client: EurekaClient) -> None:
    raw.register()
    found = client.get(raw.key, soon())
    assert found is not None
    assert (found.by_agent, found.ports) == (False, (8080,))


def test_the_client_renews_and_is_told_when_it_has_to_register_anew(raw: Raw, client: EurekaClient) -> None:
    assert not client.renew(raw.key, soon())
    raw.register()
    assert client.renew(raw.key, soon())
    raw.override("OUT_OF_SERVICE")
    assert client.renew(raw.key, soon())
    raw.remove_override()
    assert not client.renew(raw.key, soon())


def test_what_is_out_of_service_stays_so_until_it_is_deleted(raw: Raw) -> None:
    raw.register(status="OUT_OF_SERVICE")
    raw.register(status="UP")
    assert raw.status() == ("OUT_OF_SERVICE", "UNKNOWN")
    raw.delete()
    raw.register(status="UP")
    assert raw.status() == ("UP", "UNKNOWN")


def test_the_watcher_keeps_a_lease_alive_for_as_long_as_the_app_lives(raw: Raw) -> None:
    alive = True
    config = EurekaSection(urls=(raw.url,), app=raw.app, register=section(lease=2.0))
    lease = Lease(config, answers=lambda *_: alive)
    raw.id = registrant.document(section(), raw.app, MACHINE)["instanceId"]

    def renewed() -> float:
        """Seconds that it has been renewed for."""
        lease.check(MACHINE, True)
        answer = raw.get()
        if answer.status_code == 404:
            return 0.0
        terms = answer.json()["instance"]["leaseInfo"]
        seconds: float = (terms["lastRenewalTimestamp"] - terms["registrationTimestamp"]) / 1000
        return seconds

    eventually(lambda: renewed() >= 3 * 2.0)
    raw.delete()  # as a registry that is started anew forgets it
    eventually(lambda: renewed() > 0)
    assert raw.status() == ("UP", "UNKNOWN")
    alive = False
    eventually(lambda: (renewed(), raw.get().status_code == 404)[1])


def test_the_watcher_leaves_an_app_alone_that_registers_itself(raw: Raw) -> None:
    raw.register()
    eventually(lambda: raw.listed() == ["UP"])
    found = Lease(EurekaSection(urls=(raw.url,), app=raw.app, register=section()))
    document = registrant.document(section(), raw.app, MACHINE)
    assert found._registered_by_the_app(document, soon()) == raw.id
    raw.rename()
    raw.id = document["instanceId"]
    raw.register()
    document = registrant.document(section(), raw.app, MACHINE)
    assert found._registered_by_the_app({**document, "instanceId": raw.id}, soon()) == raw.id


@pytest.mark.parametrize("app", ["ORDERS", None])
def test_a_wrong_base_url_is_an_error_and_not_an_empty_registry(raw: Raw, app: str | None) -> None:
    client = EurekaClient([raw.url.replace("/eureka", "/elsewhere")])
    with pytest.raises(RegistryError, match=r"no registry at .*/elsewhere/apps"):
        client.find(MACHINE, app, soon())
