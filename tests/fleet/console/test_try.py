"""A picture is sent to a module on a real device and at an endpoint, through the page and the command line."""

import io
import json
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from sqlalchemy import insert, update

from fleet.console import try_form
from fleet.settings import Settings
from fleet.setup import opened as database_of
from fleet.target_tables import endpoints, targets
from fleet.targets.contract import Standing
from modules.errors import Invalid
from modules.protocol.commands import TRIAL_BODY
from tests.fleet.console.conftest import PASSWORD, person
from tests.fleet.console.test_accessible import faults
from tests.parts import docker as docker_parts
from tests.parts.browser import log_in, opened
from tests.parts.on_device import OnDevice
from tests.parts.programs import CommandFailed, run
from tests.parts.system import System

SLOT = "camera"
RED = (250, 10, 20)
SIDE = 2
HERE = f"http://127.0.0.1:8700/{SLOT}/score"


def picture(colour=RED):
    written = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(written, "PNG")
    return written.getvalue()


def published(system, folder, name="colours", *, image=True, side=SIDE):
    """A graph that says how much of each colour is in a picture, and that takes files where ``image`` is declared."""
    folder = folder / name
    taken = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, side, side])
    given = helper.make_tensor_value_info("colours", TensorProto.FLOAT, [1, 3])
    node = helper.make_node("ReduceMean", ["pixels"], ["colours"], axes=[2, 3], keepdims=0)
    made = helper.make_model(
        helper.make_graph([node], "colours", [taken], [given]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "labels.txt").write_text("red\ngreen\nblue\n")
    onnx.save(made, folder / "model" / "colours.onnx")
    serve = {"kind": "onnx", "file": "colours.onnx"}
    serve |= {"image": {"width": 2, "height": 2, "layout": "NCHW"}} if image else {}
    (folder / "serve.json").write_text(json.dumps(serve))
    (folder / "sample.json").write_text(json.dumps({"data": np.ones((1, 3, 2, 2)).tolist()}))
    # Of a large one a sample would be too large, too.
    proof = ("--sample", folder / "sample.json") if side == SIDE else ("--prove", "ready-only")
    more = ("--serve", folder / "serve.json", *proof)
    return system.sign(system.register(folder / "model", name, *more))


@pytest.fixture(scope="module")
def site():
    """A server with its console, and a device on which the module is committed; its gateway is an endpoint as well."""
    with (
        tempfile.TemporaryDirectory(prefix="eft-") as place,
        docker_parts.engine(),
        closing(docker_parts.client()) as engine,
    ):
        folder = Path(place)
        folder.chmod(0o755)
        system = System(folder, console="true")
        with closing(system):
            system.found(docker_parts.scoring_image(engine))
            (folder / "red.png").write_bytes(picture())
            system.ref = published(system, folder)
            system.plain = published(system, folder, "plain", image=False)
            system.wide = published(system, folder, "wide", image=False, side=1024)
            person(system.data, "worker", "operator")
            person(system.data, "watcher", "viewer")
            with closing(OnDevice(system, "press-7")) as device:
                device.enroll()
                device.start()
                for ref, slot in ((system.ref, SLOT), (system.plain, "plain")):
                    system.ended(system.start_rollout(ref, device.name, slot=slot), said=device.said)
                _as_endpoint(system, f"http://127.0.0.1:{device.port}")
                system.device = device
                yield system


def _as_endpoint(system, url):
    """An endpoint of the slot's name that answers where the device's gateway does."""
    database = database_of(Settings(data=system.data.root))
    versions = {}
    for name, ref, weight in (("v1", system.ref, 100), ("v2", system.wide, 0)):
        digest = system.api(f"modules/{ref.replace(':', '/')}")["digest"]
        versions[name] = {"module": ref, "digest": digest, "weight": weight, "replicas": 1}
    wish = {"versions": versions, "default": "v1"}
    wish["settings"] = {"auth": "none"}
    target = {"name": "lab", "kind": "container", "attached": '{"docker": "unix:///nonexistent.sock"}', "created": 0.0}
    row = {"name": SLOT, "target": "lab", "team": "acme", "generation": 1, "state": "updating", "since": time.time()}
    row |= {"wish": json.dumps(wish), "secrets": b"", "created": time.time()}
    standing = msgspec.json.encode(Standing(state="ready", url=url)).decode()
    with database.write() as connection:
        connection.execute(insert(targets).values(**target))
        connection.execute(insert(endpoints).values(**row, standing=standing))
        connection.execute(update(endpoints).values(standing=standing))
    database.close()


def drop(page, data=None):
    """A file into the page, as if it were dropped there."""
    page.get_by_role("tab", name="Picture or file").click()
    file = {"name": "red.png", "mimeType": "image/png", "buffer": picture() if data is None else data}
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_text("red.png: ").wait_for()


@contextmanager
def page_of(site, chromium, name, at, **context):
    with opened(chromium, site.server.url, **context) as page:
        log_in(page, name, PASSWORD, at=at)
        yield page


@pytest.mark.needs("docker", "mosquitto", "chromium")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_a_picture_is_dropped_and_the_device_answers(site, chromium, theme):
    """From the device's page: the picture goes as it is, the answer says what is in it and who said so."""
    with page_of(site, chromium, "worker", "/console/devices/press-7", color_scheme=theme) as page:
        page.get_by_role("link", name="Try a module").click()
        page.wait_for_url("**/try?device=press-7")
        drop(page)
        page.get_by_text("--input red.png --content-type image/png").wait_for()
        page.get_by_role("button", name="Send").click()
        page.get_by_text("the module itself").wait_for()
        assert page.locator(".ef-share-row").first.inner_text().split() == ["red", "0.980392"]
        page.locator("dd", has_text=site.ref).wait_for()
        page.locator("dd", has_text="CPUExecutionProvider").wait_for()
        assert not faults(page)


@pytest.mark.needs("docker", "mosquitto", "chromium")
@pytest.mark.timeout(400)
def test_a_picture_becomes_the_numbers_that_a_graph_takes(site, chromium, tmp_path):
    """Its shape suggests the form; what is sent is seen first, can be changed and saved, and is the same elsewhere."""
    with page_of(site, chromium, "worker", "/console/try?device=press-7&slot=plain") as page:
        drop(page)
        page.get_by_text("Its graph takes numbers, and no files.").wait_for()
        page.get_by_text("1 x 3 x 2 x 2 float32, from 0.0392 to 0.98, 0.366 on average. Sent as bytes: 48").wait_for()
        seen = page.get_by_role("img", name="The picture as it is sent")
        drawn = "one => [one.width, one.height, ...one.getContext('2d').getImageData(1, 1, 1, 1).data]"
        assert seen.evaluate(drawn) == [2, 2, *RED, 255]
        assert not faults(page)
        page.get_by_role("button", name="Send").click()
        page.get_by_text("the module itself").wait_for()
        assert page.locator(".ef-share-row").first.inner_text().split() == ["red", "0.980392"]
        page.get_by_label("Colours").click()
        page.get_by_role("option", name="BGR").click()
        page.get_by_label("Values").click()
        page.get_by_role("option", name="0 to 255").click()
        page.get_by_text("from 10 to 250").wait_for()
        page.get_by_role("button", name="Send").click()
        page.locator(".ef-share-row").first.filter(has_text="250").wait_for()
        assert page.locator(".ef-share-row").first.inner_text().split() == ["blue", "250"]
        page.get_by_text("--input picture.bin --content-type application/octet-stream").wait_for()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save what is sent").click()
        saved.value.save_as(tmp_path / "picture.bin")
        page.get_by_role("button", name="The file as it is").click()
        page.get_by_role("button", name="Send").click()
        page.get_by_text("Refused: 400").wait_for()
    given = ("--input", tmp_path / "picture.bin", "--content-type", "application/octet-stream")
    body = site.cli("try", site.plain, "--device", "press-7", *given)["answer"]["body"]
    colours = json.loads(msgspec.json.decode(msgspec.json.encode(body), type=bytes))["colours"]
    assert np.allclose(colours, [RED[::-1]])


@pytest.mark.long
@pytest.mark.needs("docker", "mosquitto", "chromium")
@pytest.mark.timeout(400)
def test_a_small_file_with_a_huge_picture_in_it_is_not_read(site, chromium):
    """Nor is what only calls itself a picture; either is said, and nothing can be sent."""
    written = io.BytesIO()
    Image.new("1", (8001, 8000)).save(written, "PNG")
    with page_of(site, chromium, "worker", "/console/try?device=press-7&slot=plain") as page:
        drop(page, written.getvalue())
        page.get_by_text("8001 x 8000 pixels are more than the 64 million that are read").wait_for()
        page.get_by_role("button", name="Send").click()
        page.get_by_text("the numbers are not there yet").wait_for()
        drop(page, b"no picture")
        page.get_by_text("this is no picture that this browser can read").wait_for()


@pytest.mark.needs("docker", "mosquitto", "chromium")
@pytest.mark.timeout(400)
def test_what_is_too_large_for_a_device_says_so_before_it_is_sent_and_where_else_it_may_go(site, chromium):
    """As numbers a picture is more than the broker takes: it goes to an endpoint, or as the file that it is."""
    with page_of(site, chromium, "worker", "/console/try?device=press-7&slot=camera") as page:
        send, said = page.get_by_role("button", name="Send", exact=True), page.get_by_role("alert")
        page.get_by_label("JSON to send").fill(json.dumps({"data": "x" * TRIAL_BODY}))
        said.get_by_text("too large to send there").wait_for()
        assert send.is_disabled()
        drop(page)
        said.wait_for(state="detached")
        page.get_by_role("button", name="As numbers").click()
        said.get_by_text("too large to send there").wait_for()
        said.get_by_text("this module takes pictures itself").wait_for()
        said.get_by_text(f"curl -H 'Content-Type: application/json' --data-binary @FILE {HERE}").wait_for()
        assert send.is_disabled()
        assert not faults(page)
        said.get_by_role("button", name=f"Send it to endpoint {SLOT}, version v1").click()
        said.wait_for(state="detached")
        assert send.is_enabled()
        page.goto("/console/try?module=" + site.wide)
        page.get_by_role("tab", name="Picture or file").click()
        said.get_by_text("12.0 MiB: too large to send there").wait_for()


@pytest.mark.needs("docker", "mosquitto", "chromium")
@pytest.mark.timeout(400)
def test_a_form_is_made_of_what_the_module_says_and_an_endpoint_answers(site, chromium):
    """Its OpenAPI document names the tensor; what is filled in there is sent; what is wrong is the module's word."""
    with page_of(site, chromium, "worker", f"/console/endpoints/{SLOT}") as page:
        page.get_by_role("link", name="Try it").click()
        page.get_by_role("tab", name="Form").click()
        page.get_by_role("button", name="Fetch the form").click()
        field = page.get_by_label("pixels: shape 1 x 3 x 2 x 2")
        field.fill(json.dumps(np.full((1, 3, 2, 2), 5.0).tolist()))
        page.get_by_role("button", name="Send").click()
        page.get_by_text("blue", exact=True).wait_for()
        assert page.get_by_text("5", exact=True).count() == 3
        assert not faults(page)
        field.fill("[[")
        page.get_by_role("button", name="Send").click()
        page.get_by_text("this is no JSON").wait_for()
        page.get_by_role("tab", name="JSON").click()
        page.get_by_label("JSON to send").fill('{"data": "<script>alert(1)</script>"}')
        page.get_by_role("button", name="Send").click()
        page.get_by_text("Refused: 400").wait_for()
        assert page.locator("main script").count() == 0


@pytest.mark.long
@pytest.mark.needs("docker", "mosquitto", "chromium")
@pytest.mark.timeout(400)
def test_who_may_not_send_anything_sees_nothing_to_send_with(site, chromium):
    with page_of(site, chromium, "watcher", "/console/devices/press-7") as page:
        page.get_by_text(f"Answers: {site.ref}").wait_for()
        assert page.get_by_role("link", name="Try").count() == 0
        page.goto("/console/try?device=press-7")
        page.get_by_text("Your roles send nothing to modules").wait_for()
        assert page.get_by_role("button", name="Send").count() == 0


@pytest.mark.needs("docker", "mosquitto")
@pytest.mark.timeout(400)
def test_the_same_on_the_command_line(site):
    """The slot is found by the module; the answer says who gave it; and the document of what it takes can be had."""
    found = site.cli("try", site.ref, "--device", "press-7", "--input", site.folder / "red.png")
    answer = found["answer"]
    assert (answer["status"], answer["module"], answer["served_by"]) == (200, site.ref, "local")
    assert answer["request_id"] == found["command"]
    colours = json.loads(msgspec.json.decode(msgspec.json.encode(answer["body"]), type=bytes))["colours"]
    assert np.allclose(colours, [[one / 255 for one in RED]])
    (ranked,) = found["best"]
    assert (ranked["output"], ranked["of"]) == ("colours", 3)
    assert [one["name"] for one in ranked["best"]] == ["red", "blue", "green"]
    words = ("try", site.ref, "--device", "press-7", "--input", site.folder / "red.png")
    lines = [one.split() for one in run("fleet.client", *words, environment=site.home).splitlines()]
    assert ["colours", "red", "0.980392", "of", "3"] in lines
    (site.folder / "large.bin").write_bytes(bytes(TRIAL_BODY + 1))
    with pytest.raises(CommandFailed, match=r"(?s)192\.0 KiB that can be sent to a device.*serve-local"):
        site.cli("try", site.ref, "--device", "press-7", "--input", site.folder / "large.bin")
    told = site.cli("try", site.ref, "--endpoint", SLOT, "--openapi")
    document = msgspec.json.decode(msgspec.json.encode(told["answer"]["body"]), type=bytes)
    assert json.loads(document)["openapi"].startswith("3")


def test_a_form_is_bounded_whatever_a_document_says():
    """Too deep, turned in on itself, or no document at all: it is refused, or left to be written as JSON."""
    loops = {"$ref": "#/components/x"}
    content = {"application/json": {"schema": loops}, "image/png": {}}
    document = {"paths": {"/score": {"post": {"requestBody": {"content": content}}}}, "components": {"x": loops}}
    found = try_form.read(json.dumps(document).encode())
    assert (found.fields, found.kinds) == ((), ("image/png",))
    large = {
        "type": "array",
        "minItems": 10**9,
        "items": {"type": "array", "minItems": 10**9, "items": {"type": "number"}},
    }
    document["components"]["x"] = {"properties": {"many": large} | {f"f{at}": {"type": "string"} for at in range(99)}}
    found = try_form.read(json.dumps(document).encode())
    assert len(found.fields) == 40
    assert len(found.example) < 100_000
    for nothing in (b"", b"[]", b"{}", b'{"paths": {"/score": {"post": 1}}}', b"[" * 100_000):
        with pytest.raises(Invalid, match="does not say"):
            try_form.read(nothing)


def test_a_form_sends_what_was_filled_in():
    fields = (
        try_form.Field("text", "text", "", ""),
        try_form.Field("count", "whole", "", 0),
        try_form.Field("pixels", "json", "", "[]"),
        try_form.Field("left", "number", "", None),
    )
    assert json.loads(try_form.body(fields, {"text": "", "count": 3.0, "pixels": "[[1]]", "left": None})) == {
        "text": "", "count": 3, "pixels": [[1]],
    }  # fmt: skip
    with pytest.raises(Invalid, match="no JSON"):
        try_form.body(fields, {"pixels": "[["})
