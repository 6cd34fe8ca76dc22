"""What stands at the place of a module's socket, though the module put it there, leads the gateway nowhere else."""

import asyncio
import socket

import pytest

from agent import module_socket
from modules.protocol.routing import Route, Upstream
from tests.agent.gateway.stage import Stage
from tests.parts.pace import stretched


def at(path):
    return Upstream(socket=str(path), module="acme/evil:1", provider="", instance=path.name)


async def test_a_link_to_another_socket_is_not_followed(folder):
    """Neither another slot's answers nor the engine's API come out of a slot whose module links its socket there."""
    async with Stage(folder) as stage:
        other = await stage.scoring("other")
        (stage.folder / "evil.sock").symlink_to(stage.folder / "other.sock")
        gateway = await stage.gateway()
        stage.route(evil=Route(current=at(stage.folder / "evil.sock")), other=Route(current=other.upstream))

        async with gateway.post("/evil/score") as answer:
            assert answer.status == 503
        assert other.asked == []
        async with gateway.post("/other/score") as answer:
            assert answer.status == 200


async def test_a_stranger_who_listens_there_is_not_asked(folder, monkeypatch):
    """Only the containers' user and the agent are modules."""
    async with Stage(folder) as stage:
        double = await stage.scoring("s")
        gateway = await stage.gateway()
        stage.serve(double)
        monkeypatch.setattr(module_socket, "peer_uid", lambda _: 4711)

        async with gateway.post() as answer:
            assert answer.status == 503
        assert double.asked == []


@pytest.mark.parametrize("previous", [False, True], ids=["alone", "with its predecessor"])
async def test_a_module_that_accepts_nobody_is_absent_in_time(folder, previous):
    """A full queue of connections is waited for as long as a connection may take, and is then nobody at home."""
    async with Stage(folder) as stage:
        with socket.socket(socket.AF_UNIX) as full:
            full.bind(str(stage.folder / "full.sock"))
            full.listen(0)
            waiting = [socket.socket(socket.AF_UNIX) for _ in range(2)]
            for one in waiting:
                one.settimeout(0)
                one.connect_ex(str(stage.folder / "full.sock"))
            behind = await stage.scoring("behind")
            gateway = await stage.gateway(connect_s=0.2)
            upstream = behind.upstream if previous else None
            stage.route(digits=Route(current=at(stage.folder / "full.sock"), previous=upstream))

            async with asyncio.timeout(stretched(5)), gateway.post() as answer:
                assert answer.status == (200 if previous else 503)
            for one in waiting:
                one.close()
