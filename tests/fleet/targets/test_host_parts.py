"""What the parts of an endpoint on a container host are made of."""

import hashlib
import json
import tarfile

import msgspec
import pytest

from fleet.blobs import Blobs
from fleet.targets import door
from fleet.targets import groups as rules
from fleet.targets.container import content, folder, front, observed, specs
from fleet.targets.container.host import Attached, ContainerHost
from fleet.targets.container.plan import Front, Seen, SeenPart
from fleet.targets.container.specs import ACCESS, Names
from fleet.targets.contract import Job, Module, Wanted
from fleet.targets.groups import Group, SeenReplica
from fleet.targets.settings import BatchSettings, Settings
from modules import manifest as manifests
from modules.batch_program import INPUTS, OUTPUTS
from modules.names import Slug
from modules.protocol.endpoint import CANDIDATES, KEYS, Found, Said
from modules.protocol.routing import Bounds, Table
from tests.doubles import publisher
from tests.doubles.wishes import version
from tests.doubles.wishes import wanted as endpoint

NAMES = Names("feedfeedfeed", Slug("digits"))
GROUP = Group(name="v1-12345678", version="v1", module="acme/digits:1", count=2, weight=100, memory_mb=64)


def wanted(**settings):
    given = {"keys": ("a" * 32, "b" * 32), "token_secret": b"s" * 32}
    return Wanted(name=Slug("digits"), versions=[], settings=Settings(**settings), **given)


@pytest.mark.parametrize(
    "body",
    [
        specs.replica(NAMES, GROUP, 0, image="i", cpu_cores=0.5, providers=(), volumes=("/data",)),
        specs.gateway(NAMES, image="i", made="m", tls=True),
        specs.keeper(NAMES, image="i", made="m", bind="127.0.0.1", port=0),
        specs.secret_keeper(NAMES.secrets(GROUP.name), image="i"),
    ],
    ids=["replica", "gateway", "keeper", "secrets"],
)
def test_all_that_runs_is_confined(body):
    """A read-only root, no capability, no way to more rights, a user of its own, bounds of memory and processes."""
    host = body["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
    assert (body["User"], host["Memory"] == host["MemorySwap"] > 0, host["PidsLimit"]) == ("10001:10001", True, 256)
    assert host["LogConfig"]["Config"] == {"max-size": "1m", "max-file": "2"}


def test_nothing_leads_out_of_the_replicas_network():
    """Neither to the world nor to the host; of a container only the keeper is elsewhere, at the address it was told."""
    replica = specs.replica(NAMES, GROUP, 0, image="i", cpu_cores=0.5, providers=(), volumes=())
    gateway = specs.gateway(NAMES, image="i", made="m", tls=False)
    for body in (replica, gateway):
        assert body["HostConfig"]["NetworkMode"] == NAMES.whole
    assert [one["ReadOnly"] for one in replica["HostConfig"]["Mounts"]] == [True]
    keeper = specs.keeper(NAMES, image="i", made="m", bind="10.0.0.7", port=8080)
    assert keeper["HostConfig"]["PortBindings"] == {"8700/tcp": [{"HostIp": "10.0.0.7", "HostPort": "8080"}]}
    made = specs.network(NAMES)
    assert made["internal"] is True
    assert made["options"]["com.docker.network.bridge.inhibit_ipv4"] == "true"


def test_a_gateway_is_another_one_with_tls_and_another_image():
    """Its program has other arguments then, so the one of before would go on without."""
    plain = front.made(wanted(), image="i", bind="127.0.0.1")
    secure = front.made(wanted(certificate="PEM"), image="i", bind="127.0.0.1")
    newer = front.made(wanted(), image="j", bind="127.0.0.1")
    assert len({one.gateway for one in (plain, secure, newer)}) == 3
    assert plain.keeper == secure.keeper != front.made(wanted(), image="i", bind="0.0.0.0").keeper


def test_a_port_that_it_has_had_is_kept():
    """Whatever its keeper comes to; one that is asked for goes before."""
    known = msgspec.structs.replace(wanted(), port=30000)
    assert front.made(known, image="i", bind="127.0.0.1").port == 30000
    asked = msgspec.structs.replace(wanted(port=8080), port=30000)
    assert front.made(asked, image="i", bind="127.0.0.1").port == 8080


@pytest.mark.parametrize("auth", ["key", "token", "none"])
def test_only_what_the_endpoint_asks_for_lets_in(auth):
    """No token where it asks for keys, and no client's key where it asks for tokens."""
    wish = wanted(auth=auth)
    known = json.loads(door.access(wish)[KEYS])
    theirs = set(known["keys"]) & set(wish.keys)
    assert (theirs, bool(known["token_secret"]), known["open"]) == {
        "key": (set(wish.keys), False, False),
        "token": (set(), True, False),
        "none": (set(wish.keys), False, True),
    }[auth]


def test_a_job_reads_one_place_and_reaches_nobody():
    """Its inputs are not written, and it has no network; with more workers it may have more processes."""
    names = specs.JobNames("feedfeedfeed", Slug("night"))
    given = Job(name=Slug("night"), mark="m", module=None, inputs="/in", outputs="out", settings=BatchSettings())
    body = specs.job(names, given, image="i", memory_mb=64, providers=(), volumes=())
    mounts = {one["Target"]: one.get("ReadOnly", False) for one in body["HostConfig"]["Mounts"]}
    assert mounts == {specs.CONTENT: True, INPUTS: True, OUTPUTS: False}
    assert body["HostConfig"]["NetworkMode"] == "none"


def test_what_makes_replicas_others_is_another_group():
    """A new value of a secret, a limit, a module: they are made beside those of before, which serve until then."""
    host = ContainerHost(Attached(docker="unix:///nonexistent.sock"), fleet="feedfeedfeed", blobs=None)
    one = version()
    wishes = [
        endpoint(one),
        endpoint(one, memory_mb=100),
        endpoint(one, cpu_cores=2),
        *(endpoint(msgspec.structs.replace(one, secrets={"token": value})) for value in (b"a", b"b")),
        endpoint(version(ref="acme/digits:2")),
    ]
    names = [group.name for wish in wishes for group, _, _ in host._wished(wish, "linux/amd64")]
    assert len(set(names)) == len(wishes)
    same = endpoint(version(replicas=3, weight=5), waiting=1, answer_s=3)
    assert host._wished(same, "linux/amd64")[0][0].name == names[0]


@pytest.mark.parametrize(
    ("replica", "state", "ready"),
    [
        ({"running": True}, "ready", 1),
        ({"running": False, "restarting": True, "why": "it ended"}, "updating", 0),
        ({"running": False, "restarts": 2, "why": "it ended"}, "updating", 0),
        ({"running": False, "restarts": 3, "why": "it ended"}, "failed", 0),
    ],
)
def test_how_an_endpoint_stands(replica, state, ready):
    """One that has ended does not answer, though it is in the table; after three ends it will not by itself."""
    group = msgspec.structs.replace(GROUP, count=1)
    made = SeenReplica(**{"name": "aaaa", "group": group.name, "number": 0} | replica)
    parts = {"keepers": (SeenPart(name="k", made="k", running=True, port=1),)}
    parts |= {"gateways": (SeenPart(name="g", made="g", running=True),)}
    seen = Seen(network=True, replicas=(made,), **parts)
    said = Said(replicas={"aaaa": Found(ready=True, provider="CPU")})
    terms = rules.Terms(Bounds(concurrent=1, waiting=1, wait_s=1.0), 1.0, {group.name: "key"})
    at_first = Seen(replicas=(msgspec.structs.replace(made, running=True),))
    table = Table(generation=1, slots={"digits": rules.route(Slug("digits"), [group], at_first, said, terms)})
    said = msgspec.structs.replace(said, table=table, generation=1)
    stands = observed.standing(wanted(), [group], Front(keeper="k", gateway="g"), seen, said, [], url="http://x")
    assert (stands.state, stands.versions["v1"].ready) == (state, ready)


def test_the_gateway_looks_at_replicas_that_run():
    """One that has ended has no address."""
    up = SeenReplica(name="aaaa", group=GROUP.name, number=0, running=True)
    down = SeenReplica(name="bbbb", group=GROUP.name, number=1, running=False)
    found = folder.files(wanted(), [GROUP], Seen(replicas=(up, down)), {GROUP.name: b""})
    assert b"http://aaaa:5001" in found[CANDIDATES]
    assert b"bbbb" not in found[CANDIDATES]


def test_the_key_of_the_gateway_is_for_the_replicas_user_alone(tmp_path):
    """And the module's files for reading alone; a file that was changed here is not handed on."""
    data = b"a file of the module"
    manifest = publisher.module("acme", "digits", "1", {"sub/model.onnx": data})
    blobs = Blobs(tmp_path / "blobs")
    blobs.put(data)
    module = Module("sha256:" + hashlib.sha256(b"x").hexdigest(), manifest)
    with (
        content.files(module, manifests.encode(manifest), blobs, key="secret") as out,
        tarfile.open(fileobj=out) as tar,
    ):
        modes = {one.name: (one.mode, one.uid) for one in tar if one.isfile()}
    assert modes.pop(ACCESS) == (0o400, specs.USER)
    assert set(modes.values()) == {(0o444, specs.USER)}
