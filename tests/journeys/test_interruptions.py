"""What a device and its applications notice when a part of the system goes away in the middle: nothing lost."""

import shutil

import pytest

from modules.digests import BLOCK
from modules.names import ModuleRef
from tests.parts import digits
from tests.parts.proxy import Proxy
from tests.parts.traffic import Traffic

SLOT = "digits"
MIB = 32
RATE = 8 << 20
# Two requests of eight blocks are on their way at any time.
IN_FLIGHT = 16
SOME = 100


@pytest.fixture(scope="module")
def edge(system, shared_device, digits_module):
    """A device that serves the digits."""
    made = shared_device("dev-interrupted")
    system.ended(system.start_rollout(digits_module, made.name, slot=SLOT), said=made.said)
    return made


@pytest.fixture
def serving(edge):
    """Takes traffic on, and checks at the end that nobody noticed anything, and that nothing was started anew."""
    before = state(edge)
    with Traffic(edge.port, f"/{SLOT}/score", digits.QUESTIONS) as traffic:
        edge.until(lambda: len(traffic.answers) > SOME, "the application gets answers")
        yield lambda: served_on(edge, traffic)
        served_on(edge, traffic)
    assert traffic.failed == []
    assert state(edge) == before


def served_on(edge, traffic):
    seen = len(traffic.answers)
    edge.until(lambda: len(traffic.answers) > seen + SOME, "the application gets answers")


def state(edge):
    """Everything that the device remembers of its slot, and the containers that run."""
    with edge.containers() as containers:
        return edge.slot(SLOT), sorted((one.id, one.status) for one in containers)


def known_as_online(system, edge):
    edge.until(lambda: system.api(f"devices/{edge.name}")["online"], "the server knows it as online")


@pytest.fixture(scope="module")
def large(system, tmp_path_factory):
    """A module of some size, and the file that makes it large."""
    folder = tmp_path_factory.mktemp("large")
    ref = system.sign(system.register(digits.padded(folder, MIB), "large", *digits.samples(folder)))
    manifest, _ = system.workspace.manifest(ModuleRef.parse(ref))
    return ref, max(manifest.files, key=lambda file: file.length)


@pytest.mark.long
def test_a_pull_goes_on_after_sigkill(system, device, large):
    """The agent dies in the middle of a pull: the next one fetches the rest, and again at most what was on its way."""
    ref, file = large
    with Proxy(system.broker.device_port, rate=RATE) as proxy:
        slow = device("dev-slow", through=proxy.port)
        with system.wiretap(slow.name) as tap:
            rollout = system.start_rollout(ref, slow.name, slot=SLOT)
            slow.until(lambda: proxy.received > file.length // 3, "a third has come")
            slow.agent.kill()
            assert slow.phase(SLOT) == "fetching"
            asked_before = tap.blocks(file.sha256).total()
            assert asked_before < file.block_count
            slow.agent.start()
            assert system.ended(rollout, said=slow.said)["state"] == "done"
            asked = tap.blocks(file.sha256)
        assert set(asked) == set(range(file.block_count))
        assert asked.total() <= file.block_count + IN_FLIGHT
        # What else comes: metadata, manifest, samples, TLS; none of it large.
        assert proxy.received < file.length + IN_FLIGHT * BLOCK + (1 << 20)
    assert digits.QUESTIONS[0].wrong(slow.score(SLOT, digits.QUESTIONS[0].body).body) == ""


@pytest.mark.long
def test_probation_goes_on_after_sigkill(system, edge, digits_module):
    """The agent dies while a module is on probation: the next one lets the same instance go on, and commits it."""
    settings = ("--setting", "probation_s=5")
    rollout = system.start_rollout(digits_module, edge.name, slot="probed", more=settings)
    row = edge.reaches("probed", "probation")
    edge.until(lambda: edge.score("probed", digits.QUESTIONS[0].body).status == 200, "it has the traffic")
    edge.agent.kill()
    assert edge.score("probed", digits.QUESTIONS[0].body).status == 200
    edge.agent.start()
    assert system.ended(rollout, said=edge.said)["state"] == "done"
    after = edge.slot("probed")
    assert after.current.instance == row.candidate.instance
    times = dict(after.target.times)
    assert [name for name, _ in after.target.times].count("probation") == 1
    assert times["committed"] - times["probation"] >= 5


def test_an_agent_killed_in_every_phase_loses_nothing(system, edge, digits_module, tmp_path):
    """It dies whenever the next version has got one phase further: that one is committed, and no request failed."""
    options = digits.samples(tmp_path)
    ref = system.sign(system.register(digits.trained_on(tmp_path), "digits-next", *options))
    died_in = []

    def die_in_each() -> bool:
        row = edge.slot(SLOT)
        if row.wanted.module == ref and row.phase not in died_in:
            edge.agent.kill()
            died_in.append(row.phase)
            edge.agent.start()
        return "committed" in died_in

    with Traffic(edge.port, f"/{SLOT}/score", digits.QUESTIONS) as traffic:
        served_on(edge, traffic)
        rollout = system.start_rollout(ref, edge.name, slot=SLOT)
        edge.until(die_in_each, "it is committed")
        assert system.ended(rollout, said=edge.said)["state"] == "done"
        edge.until(lambda: len(state(edge)[1]) == len(edge.slots()), "one instance is left of each slot")
        served_on(edge, traffic)
    assert {"starting", "probation"} <= set(died_in)
    assert traffic.failed == []
    assert traffic.modules() == ([digits_module, ref], [digits_module, ref])


@pytest.mark.long
def test_the_newest_order_wins_in_the_middle_of_a_pull(system, device, large, digits_module):
    """A slow pull ends for the module that is ordered meanwhile; what came is kept for another time."""
    with Proxy(system.broker.device_port, rate=RATE / 8) as proxy:
        slow = device("dev-superseded", through=proxy.port)
        first = system.start_rollout(large[0], slow.name, slot=SLOT)
        slow.until(lambda: proxy.received > 2 << 20, "a part has come")
        second = system.start_rollout(digits_module, slow.name, slot=SLOT)
        assert system.ended(second, said=slow.said)["state"] == "done"
        assert proxy.received < large[1].length
    assert slow.score(SLOT, digits.QUESTIONS[0].body).headers["x-edgefleet-module"] == digits_module
    (partial,) = (slow.state / "blobs").glob("*.part")
    assert partial.stat().st_size == large[1].length
    (never,) = system.api(f"rollouts/{first}")["devices"]
    assert never["phase"] != "committed"


@pytest.mark.long
def test_a_crash_is_mended_though_the_network_swallows_everything(system, device, digits_module):
    """The module's process is killed while no packet arrives anywhere: the agent has it back within seconds."""
    with Proxy(system.broker.device_port) as proxy:
        edge = device("dev-swallowed", through=proxy.port)
        system.ended(system.start_rollout(digits_module, edge.name, slot=SLOT), said=edge.said)
        before = edge.slot(SLOT).current.instance
        proxy.swallow()
        with edge.containers() as (container,):
            container.kill()
        assert edge.score(SLOT, digits.QUESTIONS[0].body).status == 503
        edge.until(lambda: edge.score(SLOT, digits.QUESTIONS[0].body).status == 200, "it is back", within_s=20)
        assert edge.phase(SLOT) == "committed"
        assert edge.slot(SLOT).current.instance != before


def test_an_agent_that_dies_is_not_noticed(edge, serving):
    """Applications are served while no agent runs, and its return changes nothing."""
    edge.agent.kill()
    serving()
    edge.agent.start()
    serving()


@pytest.mark.long
def test_renamed_containers_and_a_lost_id_are_not_noticed(system, edge, serving):
    """Somebody renames the containers, and the agent loses its installation's id: it knows them all the same."""
    kept = edge.state / "installation"
    edge.agent.kill()
    with edge.containers() as containers:
        assert {one.labels["edgefleet.installation"] for one in containers} == {kept.read_text().strip()}
        for container in containers:
            container.rename(f"bobs-{container.id[:12]}")
    kept.unlink()
    serving()
    boots = edge.agent.said().count("edgefleet-agent ")
    edge.agent.start()
    edge.until(lambda: edge.agent.said().count("edgefleet-agent ") > boots and kept.exists(), "it has another id")
    known_as_online(system, edge)
    serving()


def test_a_broker_that_dies_is_not_noticed(system, edge, serving):
    """Applications are served while the broker is away; that it comes back, with nothing retained, is a no-op."""
    system.kill_broker()
    serving()
    system.start_broker()
    edge.until(lambda: "broker back" in edge.agent.said(), "the device has a session again")
    known_as_online(system, edge)
    serving()


@pytest.mark.long
def test_a_fleet_server_that_stops_is_not_noticed(system, edge, serving):
    """Applications are served while the fleet server is away, and it knows the device again when it is back."""
    system.stop_server()
    serving()
    system.start_server()
    known_as_online(system, edge)
    report = system.report(edge.name)
    assert {slot["phase"] for slot in report["slots"]} == {"committed"}


def test_a_device_starts_without_a_network(system, edge):
    """Agent and module are gone and so is the broker: the agent starts what was committed, and it serves."""
    edge.agent.stop()
    system.kill_broker()
    try:
        with edge.containers() as containers:
            for container in containers:
                container.remove(force=True)
        assert edge.score(SLOT, digits.QUESTIONS[0].body).status == 503
        edge.agent.start()
        edge.until(lambda: edge.score(SLOT, digits.QUESTIONS[0].body).status == 200, "it serves without a broker")
        for question in digits.QUESTIONS:
            assert question.wrong(edge.score(SLOT, question.body).body) == ""
        assert edge.phase(SLOT) == "committed"
    finally:
        system.start_broker()
    known_as_online(system, edge)


def test_a_device_comes_back_after_a_power_cut(system, edge):
    """Everything on the device ends at once and the runtime folder is empty: all that was committed serves again."""
    committed = [slot["slot"] for slot in system.report(edge.name)["slots"] if slot["phase"] == "committed"]
    assert SLOT in committed
    system.kill_broker()
    try:
        edge.gateway.kill()
        edge.agent.kill()
        with edge.containers() as containers:
            for container in containers:
                container.kill()
        shutil.rmtree(edge.runtime)
        edge.start_gateway()
        assert edge.score(SLOT, digits.QUESTIONS[0].body).status in {404, 503}
        edge.agent.start()
        for slot in committed:
            edge.until(lambda slot=slot: edge.score(slot, digits.QUESTIONS[0].body).status == 200, f"{slot} serves")
            assert edge.phase(slot) == "committed"
    finally:
        system.start_broker()
    known_as_online(system, edge)
