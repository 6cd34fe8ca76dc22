"""The bundle that a device sends of itself has what helps, and no secret that is on the device."""

import base64
import io
import json
import logging
import tarfile

import msgspec
import pytest

from agent import running, sealing_key
from agent.commands.redacted import GONE, Redactor, names_a_secret
from agent.identity import CA, CERTIFICATE, DEVICE, KEY, NEXT, NEXT_KEY, PAIR, ROOT, Identity
from agent.settings import Settings
from modules.protocol.enrollment import Broker
from modules.protocol.order import Secret
from modules.protocol.report import Reason
from modules.sealing import seal
from tests.agent.commands.commanding import Commanded
from tests.agent.test_link import Site
from tests.doubles.keys import device_pem
from tests.doubles.release import make

GOOD = make("acme/digits:1")
PLANTED = {
    "setting": "s3cretInTheBlobAddress",
    "query": "QueryTokenOfAFallback",
    "environment": "EnvironmentSecret-91",
    "file": "ModuleSecretFile-77-xyz",
    "second line": "AnotherLineOfThatFile",
    "reason": "hunter2InAnError",
    "bearer": "BearerInTheLog.abc",
    "named": "NamedInTheLog-5",
    "module setting": "ModuleSettingText",
    "sealed": "SealedInTheOrder-4711",
}


@pytest.fixture
async def planted(folder, tmp_path, monkeypatch):
    """A device with a committed module, and a secret in every place that a careless bundle would take along."""
    monkeypatch.setenv("UPSTREAM_API_KEY", PLANTED["environment"])
    device = Commanded(folder)
    device.settings = Settings(
        state=str(folder),
        runtime=str(folder / "run"),
        docker_socket="/nonexistent.sock",
        blob_url=f"https://user:{PLANTED['setting']}@blobs.example/x",
        fallback_hosts=(f"https://f.example/score?sig={PLANTED['query']}",),
    )
    site = Site(tmp_path)
    for name in (CERTIFICATE, KEY, CA):
        (folder / "identity" / name).write_bytes((site.identity / name).read_bytes())
    identity = Identity(device=device.device, fleet="https://f", broker=Broker(host="127.0.0.1", port=1))
    (folder / "identity" / DEVICE).write_bytes(msgspec.json.encode(identity))
    (folder / "identity" / ROOT).write_bytes(device.publisher.first_root)
    secrets = folder / "run" / "secrets" / "main"
    secrets.mkdir(parents=True)
    (secrets / "token").write_text(f"{PLANTED['file']}\n{PLANTED['second line']}\n")
    await device.close_desk()
    device.open_desk()
    device.start()
    await device.committed(GOOD)
    row = device.row()
    where = {"device": device.device, "slot": "main", "name": "token", "version": 7}
    device.sealed = seal(PLANTED["sealed"].encode(), sealing_key.ensure(folder / "identity"), **where)
    (secrets / "sealed").write_text(PLANTED["sealed"])
    given = {"token": Secret(version=7, sealed=device.sealed)}
    current = msgspec.structs.replace(
        row.current,
        secrets=given,
        given={"token": 7},
        wanted=msgspec.structs.replace(row.current.wanted, settings={"greeting": PLANTED["module setting"]}),
    )
    why = Reason("not-ready", f"it says password={PLANTED['reason']} and {PLANTED['file']}")
    await device.stop()
    device.store.save(row.with_(current=current, trouble=why, secrets=given))
    handler = running._Recent()
    logging.getLogger("agent.test").addHandler(handler)
    logging.getLogger("agent.test").warning("Authorization: Bearer %s", PLANTED["bearer"])
    logging.getLogger("agent.test").warning("token=%s and\x1b[2J %s", PLANTED["named"], PLANTED["environment"])
    logging.getLogger("agent.test").removeHandler(handler)
    yield device
    await device.close()
    device.store.close()
    device.engine.close()
    running.recent.clear()


async def bundle(device):
    """The archive's members by name, as they were packed."""
    command = device.command("diagnose")
    device.gets(command)
    said = await device.answer(command)
    assert said.state == "done", said
    with tarfile.open(fileobj=io.BytesIO(device.result(command)), mode="r:gz") as archive:
        return {
            one.name.removeprefix(f"{device.device}/"): archive.extractfile(one).read() for one in archive.getmembers()
        }


async def test_no_planted_secret_is_in_the_bundle(planted):
    """Key, settings, environment, a module's secret files, errors and log: grepped through everything, uncompressed."""
    members = await bundle(planted)
    whole = b"\n".join(members.values())
    key = (planted.folder / "identity" / KEY).read_bytes()
    sealing = (planted.folder / "identity" / sealing_key.KEY).read_bytes()

    for what, secret in PLANTED.items():
        assert secret.encode() not in whole, what
    for line in key.splitlines()[1:-1]:
        assert line not in whole
    assert b"PRIVATE KEY" not in whole
    for secret in (planted.sealed, sealing):
        assert secret not in whole
        assert base64.b64encode(secret) not in whole
    assert json.loads(members["slots.json"])[0]["current"]["secrets"] == {"token": 7}
    assert GONE.encode() in whole


async def test_the_bundle_has_what_helps(planted):
    """Who, which versions, settings, facts, slots, findings, engines, disk, dates of certificates and metadata, log."""
    members = {name: data.decode() for name, data in (await bundle(planted)).items()}
    read = {name: json.loads(text) for name, text in members.items() if name.endswith(".json")}

    assert read["about.json"]["agent"]
    assert read["settings.json"]["poll_s"] == 5.0
    assert read["facts.json"]["platform"] == "linux/amd64"
    assert read["report.json"]["slots"][0]["module"] == "acme/digits:1"
    assert read["slots.json"][0]["current"]["wanted"]["settings"] == {"greeting": GONE}
    assert {"clock", "disk", "identity", "broker"} <= {one["what"] for one in read["findings.json"]}
    assert read["engines.json"]["docker"]["instances"][0]["slot"] == "main"
    assert read["gateway.json"]["generation"] == 1
    assert read["disk.json"][str(planted.folder)]["free"] > 0
    assert {one["file"] for one in read["certificates.json"]} == {CERTIFICATE, CA}
    assert all(one["until"].startswith("20") for one in read["certificates.json"])
    assert read["trust.json"]["timestamp"]["expires"]
    assert "WARNING agent.test" in members["agent.log"]
    assert "\x1b" not in members["agent.log"]


async def test_what_cannot_be_had_says_why_and_the_rest_comes(planted):
    """Without certificate, engine and metadata the bundle is still one."""
    (planted.folder / "identity" / CERTIFICATE).write_text("no certificate")
    planted.engine.down = True
    members = await bundle(planted)

    assert "not to be had" in members["certificates.json"].decode()
    assert b"engine" in members["engines.json"]
    assert json.loads(members["facts.json"])["platform"] == "linux/amd64"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("mqtts://user:pa55w0rd@host/x", f"mqtts://{GONE}@host/x"),
        ("https://h/x?a=1&sig=zzz and", f"https://h/x?{GONE} and"),
        ("Bearer abc.def", f"Bearer {GONE}"),
        ('"api_key": "v4lue", "lines": 3', f'"api_key": "{GONE}", "lines": 3'),
        ("password = open-sesame", f"password = {GONE}"),
        ("the key of the piano", "the key of the piano"),
        ("monkey=banana", "monkey=banana"),
    ],
)
def test_what_has_a_secrets_form_is_left_out(tmp_path, text, left):
    """Addresses, headers and assignments; ordinary words stay."""
    assert Redactor(tmp_path, environ={}).text(text) == left


def test_a_document_stays_one(tmp_path):
    """What stands under a secret's name goes, numbers and nothing stay, and the whole can still be read."""
    left = Redactor(tmp_path, environ={}).document(
        {"token": "x", "key": None, "a": [{"password": 3, "text": "token=y"}]}
    )

    assert json.loads(json.dumps(left)) == {
        "token": GONE,
        "key": None,
        "a": [{"password": 3, "text": f"token={GONE}"}],
    }


@pytest.mark.parametrize("name", [KEY, PAIR, NEXT, NEXT_KEY])
def test_a_key_of_any_kind_is_left_out(tmp_path, name):
    """A private key in PEM, one that was cut off, and the device's own without its frame, renewed or on its way."""
    pem = device_pem()[0].decode()
    (tmp_path / name).write_text(pem)
    redactor = Redactor(tmp_path, environ={})

    for text in (f"a {pem} b", pem[: len(pem) // 2], pem.splitlines()[1]):
        assert not any(line in redactor.text(text) for line in pem.splitlines()[1:-1])


def test_the_key_for_secrets_is_left_out_however_it_is_written(tmp_path):
    """It is no text: in hexadecimal or base64."""
    sealing_key.ensure(tmp_path)
    key = sealing_key.private(tmp_path)
    redactor = Redactor(tmp_path)

    for text in (key.hex(), base64.b64encode(key).decode()):
        assert text.rstrip("=") not in redactor.text(f"it is {text}!")


@pytest.mark.parametrize("name", ["api_key", "TOKEN", "db-password", "client_secret", "AWS_SECRET_ACCESS_KEY"])
def test_names_of_secrets_are_known(name):
    """As settings and variables are named."""
    assert names_a_secret(name)


@pytest.mark.parametrize("name", ["poll_s", "keepalive_s", "gateway_table", "PATH", "MONKEY"])
def test_other_names_are_not(name):
    """What is no secret stays to be read."""
    assert not names_a_secret(name)
