"""Uploads over HTTP: cut connections, and that nothing which was only uploaded can be had by a device."""

import http.client
import ssl
from urllib.parse import urlsplit

import pytest

from modules import manifest as manifests
from modules.digests import sha256
from tests.doubles.publisher import checked, module
from tests.parts.programs import until

pytestmark = pytest.mark.needs("mosquitto")
MODEL = b"the weights" * 100_000


def send(client, data=MODEL, team="acme", name="model.onnx"):
    return checked(client.post(f"/api/v1/uploads/{team}", params={"name": name}, content=data)).json()


def test_an_upload_comes_back_byte_for_byte_until_it_is_removed(fleet):
    _, client, _ = fleet
    shown = send(client)
    assert (shown["digest"], shown["length"]) == (sha256(MODEL), len(MODEL))
    place = f"/api/v1/uploads/acme/{shown['digest']}"
    assert checked(client.get(f"{place}/file")).content == MODEL
    listed = checked(client.get("/api/v1/uploads")).json()
    assert shown["digest"] in [one["digest"] for one in listed["uploads"]]
    checked(client.delete(place))
    assert client.get(place).status_code == 404
    assert client.get(f"{place}/file").status_code == 404


def test_nothing_of_an_upload_that_was_cut_off_is_kept(fleet):
    """A browser that goes away in the middle leaves neither a row nor a file."""
    server, client, _ = fleet
    at = urlsplit(server.url)
    context = ssl.create_default_context(cafile=str(server.data.ca))
    connection = http.client.HTTPSConnection(at.hostname, at.port, context=context)
    connection.putrequest("POST", "/api/v1/uploads/acme?name=half.onnx")
    for header in (("Authorization", f"Bearer {server.token}"), ("Content-Length", str(2 * len(MODEL)))):
        connection.putheader(*header)
    connection.endheaders()
    connection.send(MODEL)
    incoming = server.data.uploads / "incoming"
    until(lambda: list(incoming.iterdir()), "the server takes it in", within_s=20)
    connection.close()
    until(lambda: not list(incoming.iterdir()), "the server forgets it", within_s=20)
    assert "half.onnx" not in client.get("/api/v1/uploads").text


def test_an_upload_is_no_blob_and_no_manifest_can_name_it(fleet):
    """Devices are given blobs that a signed manifest names; what was only uploaded is none, and becomes none."""
    _, client, _ = fleet
    shown = send(client, b"unsigned" * 1000)
    assert client.get(f"/api/v1/blobs/{shown['digest']}").status_code == 404
    version = checked(client.post("/api/v1/models/acme/unsigned/versions")).json()["version"]
    manifest = module("acme", "unsigned", version, {"model.onnx": b"unsigned" * 1000})
    refused = client.put(f"/api/v1/modules/acme/unsigned/{version}", content=manifests.encode(manifest))
    assert refused.status_code == 422
    assert "blobs are missing" in refused.text
    asked = {"module": f"acme/unsigned:{version}", "slot": "main"}
    assert client.post("/api/v1/rollouts", json=asked).status_code == 404
    assert all(not one["ref"].startswith("acme/unsigned") for one in client.get("/api/v1/modules").json())
