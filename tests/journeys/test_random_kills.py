"""Update after update, while one after another of the programs that take part is killed and comes back."""

import os
import random
import time
from collections import Counter

import pytest

from tests.parts import digits
from tests.parts.dockerd import dockerd

pytestmark = pytest.mark.needs("dockerd")
SLOT = "digits"
UPDATES = 20
# To repeat a run that failed; no test itself sees such settings.
SEED = int(os.environ.get("EDGEFLEET_SEED", "0"))
WITHIN_S = 120
# An update takes between one and two seconds where nothing is killed.
AT_MOST_S = 2.0
AWAY_AT_MOST_S = 1.0


@pytest.fixture(scope="module")
def engine():
    with dockerd() as one:
        yield one


@pytest.fixture(scope="module")
def edge(engine, system, shared_device, digits_module):
    """A device with an engine of its own, which goes after the device, and serves the digits."""
    made = shared_device("dev-killed", engine=engine.socket)
    system.ended(system.start_rollout(digits_module, made.name, slot=SLOT), within_s=WITHIN_S, said=made.said)
    return made


@pytest.fixture(scope="module")
def next_module(system, tmp_path_factory):
    folder = tmp_path_factory.mktemp("next")
    return system.sign(system.register(digits.trained_on(folder), "digits-killed", *digits.samples(folder)))


@pytest.fixture
def victims(system, edge, engine):
    """How each program is killed, and how it comes back."""
    return {
        "agent": (edge.agent.kill, edge.agent.start),
        "gateway": (edge.gateway.kill, edge.start_gateway),
        "engine": (engine.program.kill, engine.start),
        "broker": (system.kill_broker, system.start_broker),
        "server": (system.kill_server, system.start_server),
    }


def strike(victims, chance, name):
    """Kill one at some moment of an update, and let it be away for a while."""
    kill, come_back = victims[name]
    time.sleep(chance.uniform(0, AT_MOST_S))
    kill()
    time.sleep(chance.uniform(0, AWAY_AT_MOST_S))
    come_back()


def answers_as(edge, ref):
    reply = edge.score(SLOT, digits.QUESTIONS[0].body)
    right = reply.status == 200 and not digits.QUESTIONS[0].wrong(reply.body)
    return right and reply.headers["x-edgefleet-module"] == ref


def updates(system, edge, victims, modules, count):
    seed = SEED or random.randrange(1 << 30)
    chance = random.Random(seed)
    # Each is struck as often as the others, in any order.
    struck = [name for _ in range(-(-count // len(victims))) for name in chance.sample(sorted(victims), len(victims))]
    for number, name in enumerate(struck[:count]):
        ref = modules[number % len(modules)]
        what = f"EDGEFLEET_SEED={seed}: update {number + 1}, {name} killed"
        rollout = system.start_rollout(ref, edge.name, slot=SLOT)
        strike(victims, chance, name)
        ended = system.ended(rollout, within_s=WITHIN_S, said=lambda what=what: f"{what}\n{edge.said()}")
        assert ended["state"] == "done", f"{what}: {ended}\n{edge.said()}"
        edge.until(lambda ref=ref: answers_as(edge, ref), f"{what}: {ref} answers")
    return Counter(struck[:count])


def ended_well(system, edge, ref):
    """One container, nothing else left, and device and server say the same."""
    edge.until(lambda: one_container(edge), "one container is left")
    row = edge.slot(SLOT)
    assert (row.phase, row.current.wanted.module) == ("committed", ref)
    edge.until(lambda: told(system, edge)["current"]["state"] == "up", "the server knows that it is up")
    assert told(system, edge)["serving"]["module"] == ref
    folders = [path.name for path in (edge.runtime / "i").iterdir()]
    assert len(folders) == 1, folders


def told(system, edge):
    (slot,) = system.report(edge.name)["slots"]
    return slot


def one_container(edge):
    with edge.containers() as containers:
        return len(containers) == 1


def test_updates_under_kills(system, edge, victims, digits_module, next_module):
    """Each update is committed and answers right, whoever was killed; nothing is condemned, nothing is left over."""
    struck = updates(system, edge, victims, (next_module, digits_module), UPDATES)

    assert set(struck) == set(victims)
    ended_well(system, edge, digits_module)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_updates_under_kills(system, edge, victims, digits_module, next_module):
    """The same for an hour's worth of updates."""
    updates(system, edge, victims, (next_module, digits_module), 10 * UPDATES)

    ended_well(system, edge, digits_module)
