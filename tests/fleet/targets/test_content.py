"""The content door, asked for real: a pod's program against a running server, and everybody who should get nothing."""

import subprocess
import sys
import time
from datetime import UTC, datetime

import msgspec
import pytest
from sqlalchemy import insert, update

from fleet import metadata_files
from fleet.authority import Authority
from fleet.blobs import Blobs
from fleet.db import Database
from fleet.refusals import Busy, Missing, Unauthorised
from fleet.registry import Registry
from fleet.target_tables import endpoints, jobs, targets
from fleet.targets.content import LIFE_S, OF_ALL, OF_ONE, Contents, _secret, _seen, check_metadata
from fleet.targets.contract import Job, Module
from fleet.targets.endpoints import Endpoints
from fleet.targets.host_certificates import HostCertificates
from fleet.targets.secrets import Sealer
from fleet.targets.settings import BatchSettings
from modules import access_tokens
from modules.digests import BLOCK
from modules.errors import BadSettings
from modules.names import ModuleRef
from modules.protocol.content import encode
from modules.trust import roles
from tests.doubles import keys
from tests.doubles.content_door import seen_roles
from tests.doubles.publisher import checked
from tests.parts.warm import ROOT

MODEL = b"".join(number.to_bytes(4, "big") for number in range(3 * BLOCK // 4)) + b"the rest"
ENDPOINT = "digits"
KEY = "k" * 43
SOON_S = 60


class Cloud:
    """A running server with an endpoint, and what its target would write into the pods' Secret."""

    def __init__(self, server, http, owner) -> None:
        self.server, self.http, self.owner = server, http, owner
        self.now = time.time()
        self.database = Database.at(server.data.database)
        registry = Registry(Blobs(server.data.blobs))
        wished = Endpoints(registry, Sealer(server.data), HostCertificates(Authority.load(server.data.ca)))
        self.contents = Contents(
            database=self.database, registry=registry, wished=wished, clock=lambda: self.now,
            url=server.url, ca=server.data.ca.read_text(),
        )  # fmt: skip
        self.wished = wished
        self.module = self.publish("digits", {"model.onnx": MODEL})
        self.other = self.publish("other", {"model.onnx": b"another"})
        row = {"name": "lab", "kind": "container", "attached": '{"docker": "unix:///none.sock"}', "created": 0.0}
        with self.database.write() as connection:
            connection.execute(insert(targets).values(**row))
        wish = {"name": ENDPOINT, "target": "lab", "versions": {"v1": {"module": str(self.module.manifest.ref)}}}
        checked(http.post("/api/v1/endpoints", json=wish))

    def publish(self, name, files):
        manifest = self.owner.upload(name, files)
        self.owner.sign(manifest)
        with self.database.read() as connection:
            registry = Registry(Blobs(self.server.data.blobs))
            return Module(registry.digest(connection, manifest.ref), manifest)

    def secret(self):
        with self.database.read() as connection:
            return self.wished.opened(self.wished.row(connection, ENDPOINT)).token_secret

    def content(self, module=None, **more):
        """The settings of the endpoint's pods, now."""
        return self.contents.of(ENDPOINT, self.secret(), module or self.module, keys=(KEY,), **more)

    def get(self, what, token=None, *, module=None, endpoint=ENDPOINT):
        """As a pod asks; with this token, or the right one."""
        token = self.content().token if token is None else token
        path = f"/api/v1/content/{endpoint}/{(module or self.module).digest}/{what}"
        return self.http.get(path, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def site(fleet):
    one = Cloud(*fleet)
    yield one
    one.database.close()


@pytest.fixture(autouse=True)
def present(site):
    site.now = time.time()


def start(site, folder, content=None, **more):
    """The init container's program, as a process; what it ended with and said."""
    file, to = folder / "content.json", folder / "edgefleet"
    file.write_bytes(encode(msgspec.structs.replace(content or site.content(), **{"within_s": 20.0} | more)))
    to.mkdir()
    command = [sys.executable, "-m", "agent.content", "--settings", str(file), "--to", str(to)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SOON_S, check=False)
    return done.returncode, done.stderr, to


def test_a_pod_gets_its_module_from_a_real_server(site, tmp_path):
    """With what the server writes into its Secret and nothing else: root, roles, token, authority."""
    code, said, to = start(site, tmp_path)
    assert (code, said) == (0, "")
    assert (to / "module/files/model.onnx").read_bytes() == MODEL
    assert {"root", "timestamp", "snapshot", "targets", "team-acme"} == set(site.content().roles)


def test_metadata_of_before_is_refused_though_the_server_itself_brings_it(site, tmp_path):
    """The roles in the settings are those that a device would remember: one version more, and it is refused."""
    seen = site.content().roles
    newer = msgspec.structs.replace(seen["timestamp"], version=seen["timestamp"].version + 1)
    code, said, _ = start(site, tmp_path, roles=seen | {"timestamp": newer})
    assert code == 1
    assert "had been seen" in said


def test_a_batch_jobs_pod_gets_its_module_until_the_job_has_ended(site, tmp_path):
    """By a token of its own, though an endpoint has the same name; neither opens the door of the other."""
    job = Job(name=ENDPOINT, mark="m" * 16, module=site.module, inputs="in", outputs="out", settings=BatchSettings())
    row = {
        "name": job.name, "target": "lab", "team": "acme", "module": str(site.module.manifest.ref),
        "digest": site.module.digest, "mark": job.mark, "asked": "{}", "state": "starting", "since": 0.0,
        "standing": "{}", "created": 0.0,
    }  # fmt: skip
    with site.database.write() as connection:
        connection.execute(insert(jobs).values(**row))
    told = site.contents.of_job(job)
    code, said, to = start(site, tmp_path, told)
    assert (code, said) == (0, "")
    assert (to / "module/files/model.onnx").read_bytes() == MODEL

    def get(token, what=f"blobs/{site.module.digest}"):
        path = f"/api/v1/batch-content/{job.name}/{site.module.digest}/{what}"
        return site.http.get(path, headers={"Authorization": f"Bearer {token}"}).status_code

    assert get(told.token) == get(told.token, "metadata/timestamp.json") == 200
    assert get(told.token, "metadata/team-second.json") == 404
    assert get(told.token, f"blobs/{site.other.digest}") == 404
    another = site.contents.of_job(msgspec.structs.replace(job, module=site.other))
    of_before = site.contents.of_job(msgspec.structs.replace(job, mark="n" * 16))
    admit = site.contents.admit_job
    for refused in (
        lambda: admit(job.name, site.other.digest, another.token),
        lambda: admit(job.name, site.module.digest, of_before.token),
        lambda: admit(job.name, site.module.digest, site.content().token),
        lambda: admit("none", site.module.digest, told.token),
        lambda: site.contents.admit(ENDPOINT, site.module.digest, told.token),
    ):
        with pytest.raises(Unauthorised):
            refused()
    with site.database.write() as connection:
        connection.execute(update(jobs).values(state="cancelled"))
    assert get(told.token) == get(told.token, "metadata/timestamp.json") == 401


def test_a_tampered_file_is_refused_though_the_server_itself_brings_it(site, tmp_path):
    """A hostile fleet server, or a bad disk under its blobs."""
    path = Blobs(site.server.data.blobs).path(site.module.manifest.files[0].sha256)
    path.chmod(0o600)
    path.write_bytes(MODEL[:-1] + b"!")
    try:
        code, said, to = start(site, tmp_path)
    finally:
        path.write_bytes(MODEL)
    assert code == 1
    assert "block 3 is not what was signed" in said
    assert list(to.iterdir()) == []


def test_an_expired_token_is_refused(site, tmp_path):
    """What stood in the Secret two days ago."""
    site.now -= LIFE_S + 1
    code, said, _ = start(site, tmp_path)
    assert code == 2
    assert "the token has expired" in said


def test_the_thief_of_a_token_reads_that_module_and_nothing_else(site):
    """Its manifest, files and indexes, and the trust metadata it rests on: what the team's devices are given anyway."""
    blob = site.module.manifest.files[0]
    for name, status in {
        site.module.digest: 200,
        blob.sha256: 200,
        blob.blocks: 200,
        site.other.digest: 404,
        site.other.manifest.files[0].sha256: 404,
    }.items():
        assert site.get(f"blobs/{name}").status_code == status, name
    for name, status in {
        "timestamp.json": 200,
        "1.root.json": 200,
        "team-acme.json": 200,
        "team-second.json": 404,
        "bins-second-00.json": 404,
        "..%2Fkeys.json": 404,
    }.items():
        assert site.get(f"metadata/{name}").status_code == status, name
    token = site.content().token
    for method, path in (
        ("GET", "/api/v1/devices"),
        ("GET", "/api/v1/endpoints"),
        ("GET", f"/api/v1/blobs/{blob.sha256}"),
        ("PUT", f"/api/v1/blobs/{blob.sha256}"),
        ("GET", f"/api/v1/endpoints/{ENDPOINT}/keys"),
    ):
        answer = site.http.request(method, path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, path


def test_a_token_is_for_one_endpoint_and_one_module(site):
    """Neither another module, nor another endpoint, nor a token by which clients score."""
    path = f"blobs/{site.other.digest}"
    assert site.get(path, module=site.other).status_code == 401
    assert site.get(path, site.content(site.other).token, module=site.other).status_code == 401  # not served
    assert site.get(f"blobs/{site.module.digest}", endpoint="none").status_code == 401
    assert (
        site.get(f"blobs/{site.module.digest}", endpoint="none").json()["detail"]
        == "this is not a token of this endpoint"
    )
    client = access_tokens.make(site.secret(), expires=int(site.now) + 600)
    for token in (client, "x", site.server.token, site.content().token[:-1] + "!"):
        assert site.get(f"blobs/{site.module.digest}", token).status_code == 401
    with pytest.raises(Exception, match="not a token"):
        access_tokens.check(site.secret(), site.content().token, now=site.now)


def test_a_token_of_one_version_is_none_of_another(site):
    """Both are served by one endpoint, and each version's pods have their own."""
    other = {"module": str(site.other.manifest.ref), "weight": 10}
    both = {"v1": {"module": str(site.module.manifest.ref)}, "v2": other}
    checked(site.http.patch(f"/api/v1/endpoints/{ENDPOINT}", json={"versions": both}))
    path = f"blobs/{site.other.digest}"
    assert site.get(path, site.content().token, module=site.other).status_code == 401
    assert site.get(path, site.content(site.other).token, module=site.other).status_code == 200
    del both["v2"]
    checked(site.http.patch(f"/api/v1/endpoints/{ENDPOINT}", json={"versions": both}))
    assert site.get(path, site.content(site.other).token, module=site.other).status_code == 401


def test_an_endpoint_that_is_being_removed_hands_out_nothing(site):
    """Nor is there anything left to fetch for who starts meanwhile."""
    token = site.content().token
    with site.database.write() as connection:
        connection.execute(update(endpoints).values(state="removing"))
    try:
        assert site.get(f"blobs/{site.module.digest}", token).status_code == 401
    finally:
        with site.database.write() as connection:
            connection.execute(update(endpoints).values(state="updating"))
    assert site.get(f"blobs/{site.module.digest}", token).status_code == 200


def test_what_stands_in_the_secret_does_not_change_with_each_look(site):
    """A pass every few seconds writes nothing; by half of its life at the latest the token is another one."""
    site.now = 10 * LIFE_S + 100.0
    first = site.content()
    site.now += LIFE_S // 2 - 101
    assert site.content() == first
    site.now += 2
    renewed = site.content()
    assert renewed.token != first.token
    assert first.written <= site.now - LIFE_S // 2
    expires = int(renewed.token.split(".")[1])
    assert expires - site.now > LIFE_S // 2


@pytest.fixture
async def door(cloud):
    """The same in this process: asks for what is below the endpoint's address, as its pods."""
    wish = {"name": ENDPOINT, "target": "lab", "versions": {"v1": {"module": cloud.refs[0]}}}
    assert (await cloud.ask("POST", "/api/v1/endpoints", json=wish)).status_code == 201
    use = cloud.http._transport.app.state.services
    with cloud.database.read() as connection:
        row = use.endpoints.row(connection, ENDPOINT)
        digest = use.registry.digest(connection, ModuleRef.parse(cloud.refs[0]))
    secret = _secret(use.endpoints.opened(row).token_secret, ENDPOINT, digest)
    token = access_tokens.make(secret, expires=int(cloud.now) + 60)

    async def get(what=f"blobs/{digest}"):
        return await cloud.ask("GET", f"/api/v1/content/{ENDPOINT}/{digest}/{what}", token)

    return get, use.contents.places


async def test_so_many_blobs_are_on_their_way_at_a_time(door):
    """One more is told to come again: who is slow holds up his own endpoint alone, and each place is given back."""
    get, places = door
    for _ in range(2 * OF_ONE):
        assert (await get()).status_code == 200
    for _ in range(OF_ONE):
        places.take(ENDPOINT)
    busy = await get()
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "5")
    places.take("another")
    places.give_back(ENDPOINT)
    assert (await get()).status_code == 200
    for number in range(OF_ALL - OF_ONE):
        places.take(f"endpoint-{number}")
    with pytest.raises(Busy):
        places.take("one-more")


async def test_another_teams_metadata_is_not_handed_out(door, cloud):
    """Though it is there."""
    get, _ = door
    teams = keys.Publisher(now=datetime.now(UTC)).teams
    with cloud.database.write() as connection:
        for team, data in teams.items():
            metadata_files.write(connection, roles.team_role(team), data)
    assert (await get("metadata/team-acme.json")).content == teams[keys.ACME]
    assert (await get("metadata/team-other.json")).status_code == 404


@pytest.mark.parametrize("most", [roles.MOST_IN_ONE_ROLE, 1])
def test_the_roles_are_those_that_a_device_would_remember(database, most):
    """Versions and keys, with a team's bins and without: else a pod would refuse what is new, or take what is old."""
    publisher = keys.Publisher(now=datetime.now(UTC), most=most)
    for version in "123":
        publisher.release(f"acme/digits:{version}")
    files = {roles.ROOT: publisher.root, roles.TARGETS: publisher.targets_metadata} | publisher.bins
    files |= {roles.team_role(team): data for team, data in publisher.teams.items()}
    files |= {roles.SNAPSHOT: publisher.online.snapshot, roles.TIMESTAMP: publisher.online.timestamp}
    with database.write() as connection:
        for role, data in files.items():
            metadata_files.write(connection, role, data)
        found = dict(_seen(connection, publisher.root, ModuleRef.parse("acme/digits:2")))

    assert found == seen_roles(publisher, "modules/acme/digits/2.json")
    assert len(found) == (5 if most > 1 else 6)


def test_another_teams_metadata_is_not_there():
    """Who serves one team's module learns nothing of what the others have."""
    ref = ModuleRef.parse("acme/digits:2")
    for name in ("3.root.json", "timestamp.json", "7.team-acme.json", "7.bins-acme-0f.json"):
        check_metadata(ref, name)
    for name in ("team-other.json", "7.bins-other-0f.json", "bins-acme-x-0f.json"):
        with pytest.raises(Missing):
            check_metadata(ref, name)


def test_pods_are_told_an_address_of_tls_alone(site):
    """A target may know another address of the server, but no clear one."""
    assert site.content(url="https://fleet.internal/").url.startswith("https://fleet.internal/api/v1/content/digits/")
    with pytest.raises(BadSettings, match="TLS"):
        site.content(url="http://fleet.internal")


def test_whoever_guesses_has_to_wait(site):
    """Twenty tokens in a minute that are none; who has the right one is not kept out by that. The last of this file."""
    path = f"blobs/{site.module.digest}"
    assert [site.get(path, "none").status_code for _ in range(21)][-1] == 429
    assert site.get(path).status_code == 200
