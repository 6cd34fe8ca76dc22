"""Whose container it is: found by label whatever its name, and nobody's but its installation's, on one real engine."""

import secrets

import msgspec
import pytest

from agent.engines.docker import DockerEngine
from agent.engines.docker_api import DockerApi
from agent.engines.docker_spec import container_name, container_spec
from agent.installation import Installation
from tests.agent.engines.test_docker import HELLO

pytestmark = pytest.mark.needs("docker")

INSTANCE = "camera-01234567-1"


@pytest.fixture
def neighbour(device, engine_socket, tmp_path):
    """Another fleet's agent with the same device name, on the same engine."""
    modules = tmp_path / "another" / "modules"
    return DockerEngine(
        device, Installation(id=secrets.token_hex(6), modules=modules), DockerApi(engine_socket)
    )  # fmt: skip


@pytest.fixture
def here(device, engine_socket, tmp_path):
    """An agent whose state folder has the launched modules in it, and whose installation has made no container yet."""
    return DockerEngine(device, Installation(id=secrets.token_hex(6), modules=tmp_path), DockerApi(engine_socket))


@pytest.fixture
def from_before(engine_client, device, launch, probe):
    """Makes a running container as agents did that knew of no installations."""

    def make(wanted):
        body = container_spec(device, "", wanted, image_id=probe[0].config.sha256)
        name = f"edgefleet.{device}.{wanted.instance}"
        labels = {key: value for key, value in body["Labels"].items() if key != "edgefleet.installation"}
        made = engine_client.api.post(
            engine_client.api._url("/containers/create"), json=body | {"Labels": labels}, params={"name": name}
        )
        container = engine_client.containers.get(made.json()["Id"])
        container.start()
        return container

    return make


class TestRenamed:
    @pytest.mark.long
    async def test_a_renamed_container_stays_ours(self, docker_engine, container, launch, said):
        """Whatever somebody calls it: it is listed, measured, read, started no second time, stopped and removed."""
        wanted = launch(HELLO)
        started = await docker_engine.start(wanted)
        said(INSTANCE)
        container(INSTANCE).rename(f"bobs-{secrets.token_hex(4)}")

        assert await docker_engine.list() == [started]
        assert await docker_engine.usage(INSTANCE) is not None
        assert await docker_engine.logs(INSTANCE, tail_bytes=100) == "hello\n"
        assert await docker_engine.start(wanted) == started
        await docker_engine.stop(INSTANCE, grace_s=10)
        assert await docker_engine.list() == []

    @pytest.mark.long
    async def test_a_renamed_left_over_is_replaced(self, docker_engine, container, launch, ended):
        """Its next start leaves nothing of it."""
        await docker_engine.start(launch("exit(1)"))
        ended(INSTANCE)
        container(INSTANCE).rename(f"bobs-{secrets.token_hex(4)}")

        again = await docker_engine.start(launch(HELLO))

        assert await docker_engine.list() == [again]

    @pytest.mark.long
    async def test_a_foreign_container_may_have_our_name(
        self, docker_engine, engine_client, installation, device, launch, probe, caplog
    ):
        """It is left alone, ours serves under a name of the engine's, and the log says why."""
        wanted = launch(HELLO)
        name = container_name(device, installation.id, INSTANCE)
        foreign = engine_client.containers.create(probe[0].config.sha256, name=name)
        try:
            await docker_engine.stop(INSTANCE, grace_s=0)
            started = await docker_engine.start(wanted)
            assert await docker_engine.list() == [started]
            assert f"a container that is not ours has the name {name}" in caplog.text
            await docker_engine.stop(INSTANCE, grace_s=0)
            assert await docker_engine.list() == []
            foreign.reload()
            assert (foreign.name, foreign.status) == (name, "created")
        finally:
            foreign.remove(force=True)

    @pytest.mark.long
    async def test_a_copy_that_somebody_made_of_ours_ends_with_it(
        self, docker_engine, engine_client, container, launch
    ):
        """A tool that recreates containers copies our labels: of two the one that runs counts, and both are removed."""
        await docker_engine.start(launch(HELLO))
        original = container(INSTANCE)
        original.stop(timeout=5)
        copy = engine_client.containers.create(original.image.id, "x", labels=original.labels)

        (found,) = await docker_engine.list()
        assert found.state == "exited"
        original.start()
        (found,) = await docker_engine.list()
        assert found.state == "running"

        again = await docker_engine.start(launch(HELLO))
        assert await docker_engine.list() == [again]
        assert original.id not in {one.id for one in engine_client.containers.list(all=True, ignore_removed=True)}
        assert copy.id not in {one.id for one in engine_client.containers.list(all=True, ignore_removed=True)}

    @pytest.mark.long
    async def test_labels_that_a_person_wrote_do_no_harm(
        self, docker_engine, engine_client, installation, device, launch, probe
    ):
        """A container with some of our labels is no crash of each look, and one without an instance is not ours."""
        started = await docker_engine.start(launch(HELLO))
        some = {"edgefleet.device": device, "edgefleet.installation": installation.id}
        made = [
            engine_client.containers.create(probe[0].config.sha256, labels=some | more)
            for more in ({}, {"edgefleet.instance": ""}, {"edgefleet.instance": "mine"})
        ]
        try:
            listed = await docker_engine.list()
            assert [one.instance for one in listed] == [started.instance, "mine"]
            await docker_engine.stop("mine", grace_s=0)
            await docker_engine.stop("", grace_s=0)
            assert await docker_engine.list() == [started]
            made[0].reload()
            made[1].reload()
        finally:
            for one in made[:2]:
                one.remove(force=True)


class TestTwoInstallations:
    async def test_the_same_device_name_twice_on_one_engine(
        self, docker_engine, neighbour, engine_client, device, installation, launch
    ):
        """Two agents see, measure and stop only their own instances, though device and instance are called alike."""
        wanted = launch(HELLO)
        ours, theirs = await docker_engine.start(wanted), await neighbour.start(wanted)

        assert await docker_engine.list() == [ours]
        assert await neighbour.list() == [theirs]
        assert ours != theirs
        labels = {"label": f"edgefleet.device={device}"}
        named = [one.name.split(".") for one in engine_client.containers.list(filters=labels)]
        assert [parts for parts in named if parts[:2] != ["edgefleet", device] or parts[3:] != [INSTANCE]] == []
        assert installation.id in {parts[2] for parts in named}
        await neighbour.stop(INSTANCE, grace_s=0)
        assert await neighbour.list() == []
        assert await neighbour.usage(INSTANCE) is None
        assert await neighbour.logs(INSTANCE, tail_bytes=10) == ""

        assert await docker_engine.list() == [ours]

    async def test_an_agent_that_has_no_id_yet_owns_nobodys(
        self, docker_engine, engine_client, device, engine_socket, launch, probe, tmp_path
    ):
        """A look before the agent's first run takes no container for its own."""
        await docker_engine.start(launch(HELLO))
        labels = {"edgefleet.device": device, "edgefleet.instance": "mine", "edgefleet.installation": ""}
        engine_client.containers.create(probe[0].config.sha256, labels=labels)
        none = DockerEngine(device, Installation(id="", modules=tmp_path / "modules"), DockerApi(engine_socket))

        assert await none.list() == []


class TestFromBefore:
    @pytest.mark.parametrize("renamed", [False, True])
    async def test_it_is_taken_over(self, docker_engine, here, from_before, launch, renamed):
        """A container without an installation runs on as it is, is shown as ours, and is stopped as ours."""
        wanted = launch(HELLO)
        container = from_before(wanted)
        if renamed:
            container.rename(f"bobs-{secrets.token_hex(4)}")

        (found,) = await here.list()
        assert (found.instance, found.slot, found.digest, found.state) == (INSTANCE, "camera", wanted.digest, "running")
        assert await here.start(wanted) == found
        await here.stop(INSTANCE, grace_s=10)
        assert await here.list() == []

    async def test_it_is_nobody_elses(self, docker_engine, neighbour, from_before, launch):
        """Of two agents with one device name only that one takes it over in whose state folder its module lies."""
        container = from_before(launch(HELLO))

        assert await neighbour.list() == []
        await neighbour.stop(INSTANCE, grace_s=0)

        container.reload()
        assert container.status == "running"

    async def test_an_installation_that_lost_its_id_finds_what_it_started(self, docker_engine, here, launch):
        """The file with the id is gone, and another was made: what runs is known by its module."""
        started = await docker_engine.start(launch(HELLO))

        assert await here.list() == [started]
        await here.stop(INSTANCE, grace_s=10)
        assert await docker_engine.list() == []

    async def test_a_state_folder_behind_a_link(self, docker_engine, device, engine_socket, launch, tmp_path):
        """It does not matter by which of its names the folder was reached then, or is now."""
        started = await docker_engine.start(launch(HELLO))
        link = tmp_path / "link"
        link.symlink_to(tmp_path)
        there = Installation(id=secrets.token_hex(6), modules=link / INSTANCE)

        assert await DockerEngine(device, there, DockerApi(engine_socket)).list() == [started]

    async def test_a_state_folder_that_was_moved(
        self, docker_engine, device, installation, engine_socket, launch, tmp_path
    ):
        """The id moves with it, so what runs from where it was is still ours."""
        started = await docker_engine.start(launch(HELLO))
        moved = msgspec.structs.replace(installation, modules=tmp_path / "elsewhere" / "modules")

        assert await DockerEngine(device, moved, DockerApi(engine_socket)).list() == [started]
