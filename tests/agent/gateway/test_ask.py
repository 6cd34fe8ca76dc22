"""The program beside an endpoint's gateway: what it takes into use, and whom it calls ready."""

import json

import msgspec
import pytest

from agent.gateway import ask
from agent.gateway.ask import PROVED, look, take
from modules import samples
from modules.digests import sha256
from modules.protocol.endpoint import CANDIDATES, KEYS, NEXT, TABLE, Candidate, Candidates
from modules.protocol.routing import Route, Version
from tests.agent.gateway.stage import Stage

KEY = "a-key-of-sixteen-letters"


def put(folder, **files):
    """As the server copies them there; returns what it says of them."""
    (folder / NEXT).mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / NEXT / name).write_bytes(data)
    return {name: sha256(data) for name, data in files.items()}


def test_only_what_is_whole_is_taken(tmp_path):
    """A file that broke off replaces nothing, and is not there any more."""
    (tmp_path / TABLE).write_bytes(b"good")
    new = put(tmp_path, **{TABLE: b"better"})
    (tmp_path / NEXT / TABLE).write_bytes(b"bett")
    take(tmp_path, new, [])
    assert (tmp_path / TABLE).read_bytes() == b"good"
    assert list((tmp_path / NEXT).iterdir()) == []
    take(tmp_path, put(tmp_path, **{TABLE: b"better"}), [])
    assert (tmp_path / TABLE).read_bytes() == b"better"


def test_what_does_not_belong_there_goes(tmp_path):
    """Samples and a certificate of before are removed; the table and what was proved stay."""
    for name in ("samples-old.json", "samples-new.json", "tls.pem", TABLE, PROVED):
        (tmp_path / name).write_bytes(b"x")
    take(tmp_path, {}, ["samples-new.json"])
    assert {one.name for one in tmp_path.iterdir()} == {"samples-new.json", TABLE, PROVED}


@pytest.fixture
def sample():
    return samples.Sample(name="one", body=b"{}", answer=b"right", answer_type="text/plain", compare=samples.Exact())


class Endpoint(Stage):
    """A stage with one replica that is ready, and two samples for it."""

    async def open(self, sample):
        self.double, replica = await self.replica("one")
        status = b'{"ready": true, "provider_in_use": "CPUExecutionProvider"}'
        self.double.said = {"/": b"Healthy", "/edgefleet/status": status, "/score": b"right"}
        (self.folder / "samples-g.json").write_bytes(samples.encode(samples.Samples((sample, sample))))
        candidate = Candidate(replica=replica, samples="samples-g.json", within_s=5)
        (self.folder / CANDIDATES).write_bytes(msgspec.json.encode(Candidates(replicas=(candidate,))))
        (self.folder / KEYS).write_text(json.dumps({"keys": [KEY]}))
        self.route(digits=Route(versions=(Version(name="v1", weight=100, replicas=()),)))
        return await self.gateway(access=self.folder / KEYS)

    def scored(self):
        return [path for _, path, _ in self.double.asked].count("/score")


async def test_a_replica_proves_itself_once(folder, sample):
    """With the right answers to all samples it is ready, and is not asked for them again."""
    async with Endpoint(folder) as stage:
        running = await stage.open(sample)
        for _ in range(2):
            found = (await look(folder, running.port)).replicas["one"]
            assert (found.ready, found.provider, stage.scored()) == (True, "CPUExecutionProvider", 2)


async def test_a_replica_with_another_answer_is_wrong(folder, sample):
    """It is not ready, and the sample is named; so it is at the next look."""
    async with Endpoint(folder) as stage:
        running = await stage.open(sample)
        stage.double.said["/score"] = b"something else"
        for _ in range(2):
            found = (await look(folder, running.port)).replicas["one"]
            assert (found.ready, found.wrong, found.why.startswith("one: ")) == (False, True, True)


async def test_a_long_proof_goes_on_at_the_next_look(folder, sample, monkeypatch):
    """A look takes a bounded time; what was answered rightly is not asked again."""
    async with Endpoint(folder) as stage:
        running = await stage.open(sample)
        monkeypatch.setattr(ask, "_PROOFS_S", 0)
        assert (await look(folder, running.port)).replicas["one"].why == "it is being proved: 2 samples are left"
        stage.double.said["/score"] = b"right"
        monkeypatch.setattr(ask, "_PROOFS_S", 5)
        (folder / PROVED).write_text('{"one": 1}')
        assert (await look(folder, running.port)).replicas["one"].ready
        assert stage.scored() == 1


async def test_a_replica_that_says_endless_things_is_not_read_to_the_end(folder, sample):
    """Of its status a little is read, of an answer as much as a right one has, and some."""
    async with Endpoint(folder) as stage:
        running = await stage.open(sample)
        stage.double.said["/score"] = b"x" * (200 << 10)
        assert not (await look(folder, running.port)).replicas["one"].ready
        stage.double.said["/edgefleet/status"] = b"x" * (200 << 10)
        assert not (await look(folder, running.port)).replicas["one"].ready


async def test_a_replica_that_is_not_there_is_not_ready(folder, sample):
    """Nothing listens: it says so; the gateway's table is told all the same."""
    async with Endpoint(folder) as stage:
        running = await stage.open(sample)
        await stage.double.kill()
        said = await look(folder, running.port)
        assert (said.generation, said.table.generation) == (1, 1)
        assert not said.replicas["one"].ready
        assert said.replicas["one"].why
        assert said.files[KEYS] == sha256((folder / KEYS).read_bytes())
