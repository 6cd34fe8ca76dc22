"""Secrets of an endpoint's modules over the API: who sets them, what is refused, and that nobody reads one again."""

import base64
import io
import tarfile

import msgspec
import pytest

from fleet import tokens
from fleet.people import roles
from fleet.people.roles import Grant
from fleet.targets import secret_files
from modules.errors import NeedsOperator
from modules.manifest import SecretFile
from modules.sealing import LONGEST
from tests.doubles.wishes import version, wanted

PATH = "/api/v1/endpoints/reader/secrets"
VALUE = b"planted-value-of-a-secret"


@pytest.fixture
async def reader(cloud):
    """An endpoint whose module requires ``token`` and may have ``feed``."""
    declared = (SecretFile(name="token"), SecretFile(name="feed", required=False))
    ref = str(cloud.fleet.add_module("reader", secrets=declared))
    cloud.refs.append(ref)
    wish = {"name": "reader", "target": "lab", "versions": {"v1": {"module": ref}}}
    answer = await cloud.ask("POST", "/api/v1/endpoints", json=wish)
    assert answer.status_code == 201, answer.text
    return cloud


async def put(cloud, name="token", value=VALUE, by=None):
    return await cloud.ask("POST", PATH, by, json={"name": name, "value": base64.b64encode(value).decode()})


async def states(cloud):
    return {one["name"]: (one["state"], one["version"]) for one in (await cloud.ask("GET", PATH)).json()}


async def test_what_is_set_is_listed_and_nobody_reads_it_again(reader):
    """Versions count up; the value is in no answer, event, audit row or table, whatever way it is written."""
    assert await states(reader) == {"feed": ("not set", None), "token": ("not set", None)}
    said = (await put(reader)).text + (await put(reader)).text + (await put(reader, "other")).text
    assert await states(reader) == {"feed": ("not set", None), "other": ("set", 1), "token": ("set", 2)}
    said += (await reader.ask("GET", PATH)).text + (await reader.ask("GET", "/api/v1/endpoints/reader")).text
    said += (await reader.ask("GET", "/api/v1/events")).text + (await reader.ask("GET", "/api/v1/audit")).text
    with reader.database.read() as connection:
        for table in ("endpoints", "events", "audit"):
            said += str(connection.exec_driver_sql(f"SELECT * FROM {table}").all())
    for spelling in (VALUE.decode(), base64.b64encode(VALUE).decode(), VALUE.hex()):
        assert spelling not in said
    assert reader.events("secret-set")


async def test_a_version_gets_those_that_its_module_declares(reader):
    """And no other that the endpoint has: another version's, or one that was set for a module to come."""
    versions = {"v1": {"module": reader.refs[-1]}, "v2": {"module": reader.refs[0]}}
    answer = await reader.ask("PATCH", "/api/v1/endpoints/reader", json={"versions": versions})
    assert answer.status_code == 200, answer.text
    await put(reader)
    await put(reader, "other")
    wished = reader.http._transport.app.state.services.endpoints
    with reader.database.read() as connection:
        found = wished.wanted(wished.row(connection, "reader"))
    assert {one.name: one.secrets for one in found.versions} == {"v1": {"token": VALUE}, "v2": {}}


async def test_a_required_one_stays_as_long_as_it_is_required(reader, refused):
    """An optional one goes; the required one not, before its version has gone."""
    await put(reader)
    await put(reader, "feed")
    assert (await reader.ask("POST", f"{PATH}/remove", json={"name": "feed"})).status_code == 200
    answer = await reader.ask("POST", f"{PATH}/remove", json={"name": "token"})
    assert "version v1 requires it" in refused(answer, 409, "conflict")["detail"]
    refused(await reader.ask("POST", f"{PATH}/remove", json={"name": "feed"}), 404, "missing")
    assert await states(reader) == {"feed": ("not set", None), "token": ("set", 1)}


async def test_what_is_too_much_is_refused(reader, refused):
    """An empty value, one that is too long, a name that is no file's, a seventeenth, and what is no base64."""
    for value in (b"", b"x" * (LONGEST + 1)):
        refused(await put(reader, value=value), 422, "invalid")
    refused(await put(reader, "../token"), 422, "invalid")
    refused(await reader.ask("POST", PATH, json={"name": "token", "value": "!"}), 422, "invalid")
    for number in range(16):
        assert (await put(reader, f"s{number}", b"x" * LONGEST)).status_code == 200
    assert "at most 16" in refused(await put(reader, "s16"), 422, "invalid")["detail"]


async def test_only_who_may_change_the_endpoint_sets_one(reader, refused):
    """Another team's admin does not find it; an admin for devices, and who only looks, may not."""

    def token(*grants):
        with reader.database.write() as connection:
            given = roles.plain(roles.check(grants))
            return tokens.create(connection, reader.now, kind="api", role="", name="x", roles=given)

    refused(await put(reader, by=token(Grant("admin", teams=("others",)))), 404, "missing")
    for grant in (Grant("admin", "site=berlin"), Grant("viewer")):
        assert (await put(reader, by=token(grant))).status_code == 403
    assert await states(reader) == {"feed": ("not set", None), "token": ("not set", None)}
    assert (await put(reader, by=token(Grant("admin", teams=("acme",))))).status_code == 200


def secretive(**secrets):
    one = version(ref="acme/reader:1", secrets=(SecretFile(name="token"), SecretFile(name="feed", required=False)))
    return msgspec.structs.replace(one, secrets={name: value.encode() for name, value in secrets.items()})


def test_a_missing_one_is_one_sentence():
    """It says which version lacks what, and what to type."""
    with pytest.raises(NeedsOperator) as said:
        secret_files.given(secretive(feed="x"), "reader")
    assert said.value.message == "version v1 requires a secret that is not set"
    assert "edgefleet secrets set token --endpoint reader" in said.value.remedy


def test_the_mark_tells_values_apart_and_nothing_of_them():
    """Other values, names or an exchange are other marks; another endpoint's keys make another of the same values."""
    given = [secretive(token="a"), secretive(token="b"), secretive(token="a", feed="b"), secretive(token="b", feed="a")]
    wish = wanted(*given)
    marks = [secret_files.mark(wish, one) for one in given]
    assert len(set(marks)) == len(marks)
    assert marks == [secret_files.mark(wish, one) for one in given]
    other = msgspec.structs.replace(wish, token_secret=b"t" * 32)
    assert not set(marks) & {secret_files.mark(other, one) for one in given}
    assert secret_files.mark(wish, secretive()) == ""


def test_files_are_laid_out_as_on_a_device():
    """Each name is a link into ``..data``, which is one folder of them all; nobody else may read."""
    with tarfile.open(fileobj=io.BytesIO(secret_files.packed({"token": b"abc"}, user=7))) as tar:
        found = {one.name: one for one in tar.getmembers()}
        assert tar.extractfile("..1/token").read() == b"abc"
    assert (found["token"].linkname, found["..data"].linkname) == ("..data/token", "..1")
    assert (found["..1"].mode, found["..1/token"].mode, {one.uid for one in found.values()}) == (0o550, 0o440, {7})
