"""The agent's core with a real engine that others use, too: people who rename its containers, and other agents."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from agent.engines import docker as docker_engine
from agent.identity import CA, DEVICE, ROOT, Identity
from modules import canonical
from modules.names import device_id
from modules.protocol.enrollment import Broker
from modules.protocol.phases import Phase
from tests.attacks.modules.conftest import ground  # noqa: F401 - a fixture
from tests.attacks.modules.exposed import HONEST, Exposed
from tests.parts.pace import stretched

# The first one may have to build the base image before it begins.
pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(300)]

NAME = "press-7"


@asynccontextmanager
async def running(on, count: int):
    """Running agents of one device name, each with folders and a gateway of its own."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            one = Exposed(new_folder(), on, probe_timeout_s=0.5, device=NAME)
            stack.callback(shutil.rmtree, one.folder)
            stack.callback(remove_all, one)
            stack.push_async_callback(one.close)
            one.start()
            made.append(one)
        yield made


@pytest.fixture
async def agent(ground):  # noqa: F811 - a fixture
    async with running(ground, 1) as (one,):
        yield one


@pytest.fixture
async def pair(ground):  # noqa: F811 - a fixture
    async with running(ground, 2) as two:
        yield two


@pytest.fixture
def before(monkeypatch):
    """Containers are labelled and named as agents did that knew of no installations, until this is called."""
    now = docker_engine.container_spec

    def spec(device, installation, launch, **more):
        body = now(device, installation, launch, **more)
        del body["Labels"]["edgefleet.installation"]
        return body

    with monkeypatch.context() as patch:
        patch.setattr(docker_engine, "container_spec", spec)
        patch.setattr(docker_engine, "container_name", lambda device, _, instance: f"edgefleet.{device}.{instance}")
        yield patch.undo


def new_folder() -> Path:
    """One that the gateway's and the container's user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="ef-"))
    folder.chmod(0o755)
    return folder


def upon(agent: Exposed) -> set[str]:
    """The ids of all containers that have something of this agent's folder mounted, whatever their labels."""
    every = agent.ground.client.containers.list(all=True, ignore_removed=True)
    folder = str(agent.folder)
    return {one.id for one in every if any(mount["Source"].startswith(folder) for mount in one.attrs["Mounts"])}


def remove_all(agent: Exposed) -> None:
    for one in upon(agent):
        agent.ground.client.containers.get(one).remove(force=True)


async def committed(agent: Exposed, name: str = "digits", script: str = HONEST):
    release = agent.ground.release(script, name)
    await agent.order(main=release)
    await agent.until(lambda: agent.serves() == f"acme/{name}:1" and agent.row().phase is Phase.COMMITTED)
    await agent.until(lambda: len(upon(agent)) == 1)
    return release


def renamed(agent: Exposed) -> str:
    """Somebody renames what serves; its id."""
    (one,) = upon(agent)
    agent.ground.client.containers.get(one).rename(f"bobs-{secrets.token_hex(4)}")
    return one


async def served_by(agent: Exposed, name: str) -> bool:
    got = await agent.ask("main")
    return (got.status, got.headers["x-edgefleet-module"]) == (200, f"acme/{name}:1")


class TestRenamed:
    async def test_it_is_neither_lost_nor_started_twice(self, agent):
        """The agent knows it for its own, and so does the next agent."""
        await committed(agent)
        known = renamed(agent)

        await agent.passes(5)
        await agent.restart()
        await agent.passes(5)

        assert upon(agent) == {known}
        assert agent.row().upkeep.restarts == 0
        assert await served_by(agent, "digits")
        await agent.stop()

    async def test_an_update_replaces_it(self, agent):
        """Nothing of it runs on beside its successor."""
        await committed(agent)
        known = renamed(agent)

        await committed(agent, "letters")

        assert known not in upon(agent)
        assert await served_by(agent, "letters")

    async def test_a_removal_ends_it(self, agent):
        """An emptied slot leaves nothing."""
        await committed(agent)
        renamed(agent)

        await agent.order()

        await agent.until(lambda: not upon(agent))

    async def test_what_ends_under_its_new_name_is_started_again(self, agent):
        """A crash is seen, and what crashed is removed."""
        await committed(agent)
        known = renamed(agent)

        agent.ground.client.containers.get(known).kill()

        await agent.until(lambda: known not in upon(agent) and agent.row().upkeep.restarts == 1)
        await agent.until(lambda: len(upon(agent)) == 1)


class TestTwoAgents:
    async def test_two_fleets_with_one_device_name(self, pair):
        """Each runs its own module in a slot of the same name, through restarts of agents, updates and removals."""
        one, other = pair
        await asyncio.gather(committed(one, "digits"), committed(other, "letters"))
        ours, theirs = upon(one), upon(other)

        await one.restart()
        await other.restart()
        await one.passes(5)
        await other.passes(5)
        assert (upon(one), upon(other)) == (ours, theirs)
        assert await served_by(one, "digits")
        assert await served_by(other, "letters")

        await committed(one, "more")
        assert upon(other) == theirs
        await one.order()
        await one.until(lambda: not upon(one))
        await one.passes(5)
        assert upon(other) == theirs
        assert await served_by(other, "letters")
        await one.stop()
        await other.stop()

    async def test_left_overs_of_one_are_not_the_others(self, pair):
        """What a crash left of one agent is swept by that agent, and not by the other, which has nothing to do."""
        one, other = pair
        await asyncio.gather(committed(one, "digits"), committed(other, "letters"))
        await other.kill()
        with other.store.together():
            other.store.forget("main")  # as a crash between two writes leaves it

        await one.passes(10)
        assert len(upon(other)) == 1
        other.start()

        await other.until(lambda: not upon(other))
        assert len(upon(one)) == 1
        await other.stop()

    async def test_doctor_names_what_no_state_folder_here_explains(self, pair):
        """Another agent's container under this device's name may be a lost one: a person is told, and decides."""
        one, other = pair
        await committed(other, "letters")
        enrolled(one)

        findings = json.loads(await asyncio.to_thread(of, one, "doctor", "--json"))

        found = next(finding["found"] for finding in findings if finding["what"] == "engine docker")
        assert (
            f"of a device of this name: edgefleet.{NAME}.{other.installation.id}.{other.row().current.instance}"
            in found
        )
        assert "docker rm --force" in found
        assert await served_by(other, "letters")

    async def test_halt_of_one_leaves_the_other(self, pair):
        """It stops what its own state folder started, under whatever name, and nothing else."""
        one, other = pair
        await asyncio.gather(committed(one, "digits"), committed(other, "letters"))
        renamed(one)
        await one.stop()
        instance = one.row().current.instance

        assert await halted(one) == [instance]

        assert not upon(one)
        assert await served_by(other, "letters")
        one.start()
        await one.until(lambda: len(upon(one)) == 1)
        await one.stop()


class TestUpgrade:
    async def test_what_an_older_agent_started_serves_on_until_it_is_replaced(self, agent, before):
        """The new agent keeps it, restarts nothing, and the next update ends it."""
        await committed(agent)
        known = upon(agent)
        await agent.kill()
        before()

        agent.start()
        await agent.passes(5)
        assert upon(agent) == known
        assert agent.row().upkeep.restarts == 0
        assert await served_by(agent, "digits")

        await committed(agent, "letters")
        assert not upon(agent) & known
        assert [one.id for one in agent.containers()] == list(upon(agent))
        await agent.stop()

    async def test_what_an_older_agent_lost_under_another_name_is_ended(self, agent, before):
        """It ran on beside its successor: the new agent finds both, and ends the one that no slot names."""
        await committed(agent)
        (first,) = upon(agent)
        container = agent.ground.client.containers.get(first)
        labels = container.labels | {"edgefleet.instance": "main-01234567-0"}
        mounts = [
            {"Type": "bind", "Source": one["Source"], "Target": one["Destination"]} for one in container.attrs["Mounts"]
        ]
        lost = agent.ground.client.containers.create(container.image.id, labels=labels, mounts=mounts)
        await agent.kill()
        before()
        assert upon(agent) == {first, lost.id}

        agent.start()

        await agent.until(lambda: upon(agent) == {first})
        await agent.stop()

    async def test_halt_of_the_new_agent_ends_what_the_older_one_started(self, agent, before):
        """Even before it has run once."""
        await committed(agent)
        await agent.kill()
        before()

        assert await halted(agent, known=False) == [agent.row().current.instance]

        assert not upon(agent)


def enrolled(agent: Exposed, *, known: bool = True) -> None:
    """What commands look for in a state folder; it has the installation's id unless that is not ``known``."""
    folder = agent.folder / "identity"
    identity = Identity(device=device_id(NAME), fleet="https://fleet", broker=Broker(host="127.0.0.1", port=1))
    (folder / DEVICE).write_bytes(canonical.encode(identity))
    for name in (CA, ROOT):
        (folder / name).write_text(name)
    if known:
        (agent.folder / "installation").write_text(agent.installation.id)


def of(agent: Exposed, *arguments: str) -> str:
    """``edgefleet-agent ARGUMENTS`` on the agent's folder, whatever its exit code: what it printed."""
    environment = {"EDGEFLEET_AGENT_STATE": str(agent.folder), "EDGEFLEET_AGENT_DOCKER_SOCKET": agent.ground.socket}
    done = subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        check=False,
        timeout=stretched(60),
    )
    return done.stdout.decode()


async def halted(agent: Exposed, *, known: bool = True) -> list[str]:
    """The instances that ``edgefleet-agent halt`` stopped."""
    enrolled(agent, known=known)
    return json.loads(await asyncio.to_thread(of, agent, "halt", "--json"))["stopped"]
