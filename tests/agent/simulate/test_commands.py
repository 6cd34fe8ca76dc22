"""Commands to simulated devices: what they can do honestly they do once, all else they refuse and say so."""

import asyncio
import base64
import json
import secrets
import time

import aiomqtt
import pytest

from fleet.broker import tls_context
from fleet.console import try_form
from modules import canonical, signing
from modules.protocol.commands import ANSWER_LIMIT, Answer, Command
from modules.protocol.topics import Topics
from modules.signing import COMMAND_TYPE, signer_from_pem
from tests.agent.simulate.rolling import QUICK, WITHIN_S, published, roll_out, until
from tests.doubles.device import join
from tests.doubles.keys import signer
from tests.doubles.publisher import checked
from tests.parts.simulator import enroll, simulator

pytestmark = pytest.mark.needs("mosquitto")
DEVICE = "asked-00001"


def command(name, **more):
    now = int(time.time())
    fields = {"id": secrets.token_hex(16), "device": DEVICE, "issued": now, "expires": now + 600}
    return Command(**{**fields, "name": name, **more})


async def answers(data, broker, given):
    """Give commands (with who signs each), and hear until each has as many answers as it is said."""
    topics, heard = Topics(), {one.id: [] for one, _, _ in given}
    context = tls_context(ca=data.ca, certificate=data.service, key=data.key(data.service))
    async with (
        asyncio.timeout(WITHIN_S),
        aiomqtt.Client(broker.host, broker.service_port, identifier="asker", tls_context=context) as client,
    ):
        await client.subscribe(topics.answer(DEVICE), qos=1)
        for one, by, _ in given:
            envelope = signing.sign(canonical.encode(one), payload_type=COMMAND_TYPE, signers=[by])
            await client.publish(topics.command(DEVICE, one.name, one.id), envelope, qos=1)
        async for message in client.messages:
            payload = signing.unverified(message.payload, limit=ANSWER_LIMIT)
            answer = canonical.decode(payload, Answer, limit=ANSWER_LIMIT, what="answer")
            heard[answer.id].append(answer.state)
            if all(len(heard[one.id]) >= wanted for one, _, wanted in given):
                return heard
    return heard


async def test_they_ping_and_refuse_the_rest(system, tmp_path):
    """Ping and collect-now are done once and said again; a restart is refused; to what is forged nothing is said."""
    server, http, _, broker = system
    director = signer_from_pem(server.data.online_key("director").read_bytes())
    ping, collect, restart, forged = (
        command("ping"),
        command("collect-now"),
        command("restart-agent"),
        command("ping"),
    )
    await asyncio.to_thread(enroll, tmp_path, join(http, uses=1), 1, "--prefix", "asked")
    with simulator(tmp_path, 1, "--prefix", "asked", *QUICK) as running:
        given = [(forged, signer(), 0), (collect, director, 1), (restart, director, 1), (ping, director, 1)]
        heard = await answers(server.data, broker, given)
        again = await answers(server.data, broker, [(collect, director, 1)])

    assert (heard[collect.id], heard[restart.id], heard[ping.id]) == (["done"], ["refused"], ["done"])
    assert heard[forged.id] == []
    assert again[collect.id] == ["done"]
    assert (running.summary["done"]["commands"], running.summary["done"]["refused commands"]) == (2, 1)
    assert "defects" not in running.summary["done"]


async def test_a_module_of_a_simulated_device_is_tried(fleet, tmp_path):
    """Over the API as on any device: who answered is its module, and the numbers say that they are made up."""
    _, http, owner = fleet
    await asyncio.to_thread(enroll, tmp_path, join(http, uses=1), 1, "--prefix", "tried")
    module = published(owner, "tried")
    with simulator(tmp_path, 1, "--prefix", "tried", *QUICK):
        rollout = roll_out(http, module, ["tried-00001"])
        await asyncio.to_thread(until, http, rollout, lambda shown: shown["state"] == "done")

        def ask(body, slot="s", **params):
            place = f"/api/v1/devices/tried-00001/slots/{slot}/try"
            headers = {"Content-Type": "application/octet-stream"}
            return http.post(place, content=body, headers=headers, params=params)

        large = b"x" * (100 << 10)
        first, again, other = [await asyncio.to_thread(ask, one) for one in (large, large, b"y")]
        document = await asyncio.to_thread(ask, b"", path="swagger.json")
        nowhere = await asyncio.to_thread(ask, b"", slot="other")
    found = checked(first).json()
    answer = found["answer"]
    assert (answer["status"], answer["module"], answer["served_by"]) == (200, module, "local")
    assert (answer["provider"], answer["request_id"]) == ("CPUExecutionProvider", found["command"])
    said = [json.loads(base64.b64decode(one.json()["answer"]["body"])) for one in (first, again, other)]
    assert "a simulated device computes nothing" in said[0]["simulated"]
    assert said[0]["made_up"] == said[1]["made_up"] != said[2]["made_up"]
    assert sum(said[0]["made_up"][0]) == pytest.approx(1, abs=0.01)
    assert try_form.read(base64.b64decode(document.json()["answer"]["body"])).fields[0].name == "data"
    assert nowhere.status_code == 404
