"""Bad input of every kind, given to the real system: a clear error, nothing started, nothing lost."""

import base64

import msgspec
import onnx
import pytest
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data
from securesystemslib.signer import CryptoSigner

from modules import canonical, signing
from modules.digests import BLOCK
from modules.names import ModuleRef
from modules.protocol.order import LIMIT, Order
from tests.parts import digits
from tests.parts.presence import engine_socket
from tests.parts.programs import CommandFailed
from tests.parts.system import TEAM, blob_path

pytestmark = pytest.mark.long

SLOT = "digits"
SPOILT = 7


@pytest.fixture(scope="module")
def edge(system, shared_device, digits_module):
    """A device that serves the digits."""
    made = shared_device("dev-bad-input")
    system.ended(system.start_rollout(digits_module, made.name, slot=SLOT), said=made.said)
    return made


# On the publisher's machine


def stored(system):
    """All that the server holds: blobs, and modules with their versions."""
    return {path for path in system.data.blobs.rglob("*") if path.is_file()}, system.cli("modules", "list")


def not_onnx(folder):
    path = folder / "model.onnx"
    path.write_bytes(b"this is a text")
    return path, "not an ONNX model"


def truncated(folder):
    path = folder / "model.onnx"
    path.write_bytes(digits.GRAPH.read_bytes()[:4000])
    return path, "truncated"


def elsewhere(folder):
    """Its weights lie outside its own folder, where they are there to be read."""
    (folder / "inside").mkdir()
    path = folder / "inside" / "model.onnx"
    model = onnx.load(digits.GRAPH)
    weights = max(model.graph.initializer, key=lambda tensor: tensor.ByteSize())
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights), weights.name))
    (folder / "weights").write_bytes(weights.raw_data)
    set_external_data(weights, "../weights")
    weights.ClearField("raw_data")
    onnx.save(model, path)
    return path, "outside the model's folder"


@pytest.mark.parametrize("make", [not_onnx, truncated, elsewhere])
def test_a_file_that_is_no_usable_graph_is_refused(system, tmp_path, make):
    """The command says what is wrong with which file; nothing reaches the server, no version is used up."""
    path, says = make(tmp_path)
    before = stored(system)
    with pytest.raises(CommandFailed) as failed:
        system.register(path, "broken")
    assert failed.value.code == 1
    assert says in failed.value.err
    assert path.name in failed.value.err
    assert stored(system) == before


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("import no_such_package\n\ndef init(): pass\n\ndef run(data): return 1\n", "no_such_package"),
        ("def init(): raise RuntimeError('no weights here')\n\ndef run(data): return 1\n", "no weights here"),
    ],
    ids=["not importable", "init raises"],
)
def test_an_entry_script_that_does_not_start_is_refused(system, tmp_path, script, says):
    """The command ends with the last lines of the script's own log; nothing reaches the server."""
    (tmp_path / "score.py").write_text(script)
    before = stored(system)
    with pytest.raises(CommandFailed) as failed:
        system.register(digits.GRAPH, "broken", "--entry-script", tmp_path / "score.py", *digits.samples(tmp_path, 1))
    assert failed.value.code == 1
    assert says in failed.value.err
    assert "last lines of its log" in failed.value.err
    assert stored(system) == before


def unknown_field(document):
    document["privileged"] = True


def tag_for_digest(document):
    document["runtimes"][0]["image"]["config"]["sha256"] = "scoring:cpu"


@pytest.mark.parametrize(("spoil", "says"), [(unknown_field, "privileged"), (tag_for_digest, "sha256")])
def test_a_manifest_of_another_form_is_refused(system, digits_module, tmp_path, spoil, says):
    """A field that no manifest has, a tag where a digest belongs: both the server and the command name it."""
    _, data = system.workspace.manifest(ModuleRef.parse(digits_module))
    document = msgspec.json.decode(data)
    with system.server.client() as http:
        version = http.post(f"/api/v1/models/{TEAM}/broken/versions").raise_for_status().json()["version"]
        document |= {"name": "broken", "version": version}
        spoil(document)
        spoilt = canonical.encode(document)
        refused = http.put(f"/api/v1/modules/{TEAM}/broken/{version}", content=spoilt)
    assert 400 <= refused.status_code < 500
    assert says in refused.text
    file = tmp_path / "manifest.json"
    file.write_bytes(spoilt)
    with pytest.raises(CommandFailed, match=says):
        system.cli("modules", "verify", file)
    assert f"{TEAM}/broken:{version}" not in {module["ref"] for module in system.cli("modules", "list")}


# On the way to the device


def test_a_block_with_wrong_bytes_is_fetched_again_alone(system, edge, tmp_path):
    """The pull pauses with a reason after some tries, the digits are served on, and it ends when the blob is whole."""
    ref = system.sign(system.register(digits.padded(tmp_path, 2), "spoilt", *digits.samples(tmp_path, 1)))
    manifest, _ = system.workspace.manifest(ModuleRef.parse(ref))
    file = max(manifest.files, key=lambda one: one.length)
    path = blob_path(system.data, file.sha256)
    whole = path.read_bytes()
    wrong = bytearray(whole)
    wrong[SPOILT * BLOCK + 100] ^= 1
    path.write_bytes(wrong)
    with system.wiretap(edge.name) as tap:
        rollout = system.start_rollout(ref, edge.name, slot="spoilt")
        told = edge.until(lambda: waiting(system, edge, "spoilt"), "the pull pauses")
        assert (told["phase"], told["reason"]["code"]) == ("fetching", "transfer-stalled")
        assert "came wrong" in told["reason"]["message"]
        assert f"the first is {SPOILT}" in told["reason"]["message"]
        assert edge.score(SLOT, digits.QUESTIONS[0].body).status == 200
        path.write_bytes(whole)
        assert system.ended(rollout, said=edge.said)["state"] == "done"
        asked = tap.blocks(file.sha256)
    assert asked.pop(SPOILT) > 5
    assert set(asked.values()) == {1}
    assert edge.score("spoilt", digits.QUESTIONS[0].body).status == 200


def waiting(system, edge, slot):
    """What the device reports of a slot, once it gives a reason."""
    slots = system.report(edge.name).get("slots", ())
    return next((one for one in slots if one["slot"] == slot and one["reason"]), None)


# Orders


def test_an_order_by_an_unknown_key_is_refused(system, edge):
    """The device's own order, word for word, with a later number and signed by a key that no publisher delegated to."""
    with system.wiretap(edge.name) as tap:
        order = canonical.decode(payload(newest(edge, tap)), Order, limit=LIMIT, what="order")
        forged = msgspec.structs.replace(order, counter=order.counter + 1, slots={})
        signers = [CryptoSigner.generate_ed25519()]
        envelope = signing.sign(canonical.encode(forged), payload_type=signing.ORDER_TYPE, signers=signers)
        see_refused(system, edge, tap, envelope, "sign")


def test_an_order_for_another_device_is_refused(system, edge, device):
    """One device's rightly signed order, given to another, starts nothing there; its own order then does."""
    other = device("dev-other")
    with system.wiretap(edge.name) as tap:
        envelope = newest(edge, tap)
    with system.wiretap(other.name) as tap:
        see_refused(system, other, tap, envelope, f"the order is for {edge.name}")
    assert instances(other) == []


def test_an_order_older_than_the_last_is_refused(system, edge, digits_module):
    """Yesterday's order, rightly signed then, does not take away what today's brought."""
    with system.wiretap(edge.name) as tap:
        old = newest(edge, tap)
        rollout = system.ended(system.start_rollout(digits_module, edge.name, slot="newer"), said=edge.said)
        assert rollout["state"] == "done"
        see_refused(system, edge, tap, old, "was accepted")
    assert edge.score("newer", digits.QUESTIONS[0].body).status == 200


def newest(edge, tap):
    return edge.until(lambda: tap.orders and tap.orders[-1], "the broker has its order")


def payload(envelope):
    return base64.b64decode(msgspec.json.decode(envelope)["payload"])


def see_refused(system, edge, tap, envelope, says):
    """Publish an order as a hostile broker could: it is refused, reported, and changes nothing."""
    before, slots = instances(edge), system.report(edge.name).get("slots", [])
    known = refusals(system, edge)
    tap.give_order(envelope)
    edge.until(lambda: len(refusals(system, edge)) > len(known), "the refusal is reported")
    last = refusals(system, edge)[-1]
    assert last["reason"]["code"] == "untrusted"
    assert says in last["reason"]["message"]
    assert system.report(edge.name)["slots"] == slots
    assert instances(edge) == before


def refusals(system, edge):
    return system.report(edge.name).get("refusals", [])


def instances(edge):
    with edge.containers() as containers:
        return sorted(one.id for one in containers)


# No Docker


def test_a_device_without_an_engine_is_named_before_anything_starts(system, device, digits_module, tmp_path):
    """The rollout is refused with the device and the reason; its doctor says what to do."""
    bare = device("dev-bare", docker_socket=str(tmp_path / "no.sock"))
    with pytest.raises(CommandFailed) as failed:
        system.start_rollout(digits_module, bare.name, slot=SLOT)
    assert bare.name in failed.value.err
    assert "docker" in failed.value.err
    with pytest.raises(CommandFailed) as ill:
        bare.command("doctor", "--json")
    (engine,) = [check for check in msgspec.json.decode(ill.value.out) if "docker" in str(check).lower()]
    assert str(tmp_path / "no.sock") in str(engine) or "docker" in str(engine)


@pytest.mark.parametrize("boots", [False, True], ids=["while the agent runs", "before the agent starts"])
def test_an_engine_that_goes_away_loses_nothing(system, device, digits_module, tmp_path, boots):
    """What runs goes on serving, what is ordered waits with the reason, and is done when the engine is back."""
    link = tmp_path / "docker.sock"
    link.symlink_to(engine_socket())
    edge = device("dev-engine-lost", docker_socket=str(link))
    system.ended(system.start_rollout(digits_module, edge.name, slot=SLOT), said=edge.said)
    running = instances(edge)
    if boots:
        edge.agent.stop()
    link.unlink()
    rollout = system.start_rollout(digits_module, edge.name, slot="later")
    if boots:
        edge.agent.start()
    told = edge.until(lambda: waiting(system, edge, "later"), "it says why it waits")
    assert told["reason"]["code"] == "no-engine"
    assert edge.score(SLOT, digits.QUESTIONS[0].body).status == 200
    assert instances(edge) == running
    link.symlink_to(engine_socket())
    assert system.ended(rollout, within_s=30, said=edge.said)["state"] == "done"
    assert edge.score("later", digits.QUESTIONS[0].body).status == 200
    assert set(running) < set(instances(edge))
