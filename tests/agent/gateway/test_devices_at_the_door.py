"""Devices at an endpoint's door: they come in by the certificate of their fleet's authority, and nobody else does."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509

from tests.agent.gateway.test_cloud import Authority
from tests.agent.gateway.test_endpoint import KEY, OTHER, Endpoint, bearer
from tests.parts.pace import stretched

DEVICE = "urn:edgefleet:device:dev-1"


@pytest.fixture
async def fleet(folder):
    return Authority(folder)


class Door(Endpoint):
    """An endpoint that speaks TLS, and lets devices in."""

    async def open_to(self, fleet, **devices):
        chain, key = fleet.issue("127.0.0.1", file="server")
        door = {"devices": {"ca": fleet.file.read_text(), **devices}}
        running = await self.open(door=door, tls_certificate=Path(chain), tls_key=Path(key))
        running.url = f"https://127.0.0.1:{running.port}"
        return running

    async def asked(self, running, fleet, pair=None, *, path="/score", headers=None):
        """Status and words of one request over a connection of its own."""
        trusted = ssl.create_default_context(cafile=fleet.file)
        if pair is not None:
            trusted.load_cert_chain(*pair)
        async with (
            aiohttp.ClientSession() as session,
            session.post(running.url + path, data=b"{}", headers=headers or {}, ssl=trusted) as answer,
        ):
            return answer.status, (await answer.json()).get("message", "")


def serial(pair):
    with open(pair[0], "rb") as file:  # noqa: PTH123 - a name
        return f"{x509.load_pem_x509_certificate(file.read()).serial_number:x}"


async def test_a_device_comes_in_by_its_certificate(folder, fleet):
    """Without key or token; a client that has none needs a key as ever, over the same port."""
    async with Door(folder) as stage:
        running = await stage.open_to(fleet)
        assert (await stage.asked(running, fleet, fleet.issue("dev-1", uri=DEVICE)))[0] == 200
        assert (await stage.asked(running, fleet))[0] == 401
        assert (await stage.asked(running, fleet, headers=bearer(KEY)))[0] == 200


async def test_who_is_no_device_does_not(folder, fleet):
    """A service of the fleet has a certificate of the same authority, and is no device; nor may one see the index."""
    async with Door(folder) as stage:
        running = await stage.open_to(fleet)
        service = fleet.issue("service", uri="urn:edgefleet:service:broker")
        assert (await stage.asked(running, fleet, service))[0] == 401
        device = fleet.issue("dev-1", uri=DEVICE)
        assert (await stage.asked(running, fleet, device, path="/edgefleet/endpoint"))[0] == 401


async def test_another_authoritys_device_does_not(folder, fleet):
    """Its connection is refused before it has said anything."""
    (folder / "other").mkdir()
    other = Authority(folder / "other")
    async with Door(folder) as stage:
        running = await stage.open_to(fleet)
        with pytest.raises(aiohttp.ClientError):
            await stage.asked(running, fleet, other.issue("dev-1", uri=DEVICE))
        assert stage.double.asked == []


async def test_a_revoked_device_is_told_so_on_a_connection_that_it_has(folder, fleet):
    """The list is taken into use without a restart, and counts for connections that are open, too."""
    pair = fleet.issue("dev-1", uri=DEVICE)
    trusted = ssl.create_default_context(cafile=fleet.file)
    trusted.load_cert_chain(*pair)
    async with Door(folder) as stage, aiohttp.ClientSession() as session:
        running = await stage.open_to(fleet)

        async def asked():
            async with session.post(running.url + "/score", data=b"{}", ssl=trusted) as answer:
                return answer.status, (await answer.json()).get("message", "")

        assert (await asked())[0] == 200
        revoked = {"ca": fleet.file.read_text(), "revoked": [serial(pair)]}
        stage.write_keys(KEY, OTHER, devices=revoked)
        async with asyncio.timeout(stretched(5)):
            while (found := await asked())[0] == 200:
                pass
        assert found == (401, "this device's certificate is revoked; enrol it again")


async def test_the_door_is_opened_and_closed_to_devices_without_a_restart(folder, fleet):
    """What the file says counts from the next connection on."""
    pair = fleet.issue("dev-1", uri=DEVICE)
    async with Door(folder) as stage:
        running = await stage.open_to(fleet)
        for door, wanted in (({}, 401), ({"devices": {"ca": fleet.file.read_text()}}, 200)):
            stage.write_keys(KEY, OTHER, **door)
            async with asyncio.timeout(stretched(5)):
                while (await stage.asked(running, fleet, pair))[0] != wanted:
                    pass


async def test_an_authority_that_is_none_takes_nothing_away(folder, fleet):
    """Keys go on letting in; devices do not come in."""
    async with Door(folder) as stage:
        running = await stage.open_to(fleet, ca="nonsense")
        assert (await stage.asked(running, fleet, headers=bearer(KEY)))[0] == 200
        assert (await stage.asked(running, fleet, fleet.issue("dev-1", uri=DEVICE)))[0] == 401


async def test_only_those_that_it_is_for_come_in(folder, fleet):
    """Another device of the fleet is told so; one that has just been named comes in at once."""
    async with Door(folder) as stage:
        running = await stage.open_to(fleet, only=["dev-1"])
        other = fleet.issue("dev-2", uri="urn:edgefleet:device:dev-2")
        assert (await stage.asked(running, fleet, fleet.issue("dev-1", uri=DEVICE)))[0] == 200
        status, said = await stage.asked(running, fleet, other)
        assert (status, "is not for dev-2" in said) == (403, True)
        assert (await stage.asked(running, fleet, other, headers=bearer(KEY)))[0] == 200
        stage.write_keys(KEY, OTHER, devices={"ca": fleet.file.read_text(), "only": ["dev-1", "dev-2"]})
        assert (await stage.asked(running, fleet, other))[0] == 200
