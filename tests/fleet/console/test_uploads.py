"""A model goes from a browser to the page that says how it is signed, and its graph is drawn; or it says why not."""

import onnx
import pytest
from onnx import TensorProto, helper

from fleet.people.roles import Grant
from modules.digests import sha256
from tests.doubles.publisher import Publisher, checked
from tests.fleet.console.conftest import PASSWORD, as_person, person
from tests.fleet.console.test_accessible import faults
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")
HOSTILE = "<script>alert(1)</script>{{ 7*7 }}"


@pytest.fixture
def model(tmp_path):
    """Three operations, one with hostile words, and one tensor whose weights are in another file."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in (HOSTILE, "y")]
    nodes = [
        helper.make_node("Relu", [HOSTILE], ["h"]),
        helper.make_node(HOSTILE, ["h", "w"], ["k"], name=HOSTILE, domain="acme"),
        helper.make_node("Add", ["k", "h"], ["y"]),
    ]
    made = helper.make_model(helper.make_graph(nodes, HOSTILE, ends[:1], ends[1:]), producer_name=HOSTILE)
    weight = made.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    (tmp_path / "weights.bin").write_bytes(b"w" * 16)
    file = tmp_path / "Some Model.onnx"
    onnx.save_model(made, file)
    return file


def test_an_upload_ends_at_the_command_that_signs_it(server, chromium, model):
    """With the weights' file beside it; the graph is drawn, whatever its words are; and it can be taken out again."""
    beside = model.with_name("weights.bin")
    for theme in ("light", "dark"):
        with opened(chromium, server.url, color_scheme=theme) as page:
            page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
            log_in(page, "admin", PASSWORD, at="/console/modules")
            page.get_by_role("link", name="Upload a model").click()
            page.get_by_label("Team that will sign it").fill("acme")
            page.get_by_label("Files: the model").set_input_files([model, beside])
            assert not faults(page)
            page.get_by_role("button", name="Upload").click()
            page.wait_for_url(f"**/console/uploads/acme/{sha256(model.read_bytes())}")
            digests = [sha256(one.read_bytes()) for one in (model, beside)]
            command = f"models register --upload {digests[0]} --upload {digests[1]} --name some-model --team acme"
            page.get_by_text(command).wait_for()
            page.locator("svg .ef-node").nth(4).wait_for()
            assert page.locator("svg .ef-node").count() == 5
            assert page.locator("svg .ef-edge").count() == 5
            assert page.locator("svg text").filter(has_text="<script>").count() >= 1
            assert page.locator("main script").count() == 0
            assert page.locator("svg rect").first.evaluate("one => one instanceof SVGRectElement")
            before = page.locator(".ef-drawing svg").evaluate("one => one.clientWidth")
            page.get_by_role("button", name="Larger").click()
            page.wait_for_function(f"document.querySelector('.ef-drawing svg').clientWidth > {before}")
            assert not faults(page)
    with opened(chromium, server.url) as page:
        log_in(page, "admin", PASSWORD, at="/console/uploads")
        page.get_by_role("link", name="Some Model.onnx").click()
        page.get_by_role("button", name="Remove", exact=True).click()
        page.get_by_role("button", name="Remove it").click()
        page.wait_for_url("**/console/uploads")
        page.get_by_role("link", name="weights.bin").wait_for()
        assert page.get_by_role("link", name="Some Model.onnx").count() == 0


def test_what_is_refused_or_cut_says_so(server, chromium, model):
    """In the server's own words, or that nothing was kept."""
    with opened(chromium, server.url, expected="/api/v1/uploads/") as page:
        log_in(page, "admin", PASSWORD, at="/console/uploads")
        page.get_by_label("Team that will sign it").fill("acme")
        page.get_by_label("Files: the model").set_input_files(
            {"name": "a;b.onnx", "mimeType": "application/octet-stream", "buffer": b"1234"}
        )
        page.get_by_role("button", name="Upload").click()
        page.get_by_role("alert").get_by_text("is not a valid path inside a module").wait_for()
        page.get_by_label("Files: the model").set_input_files(model)
        page.route("**/api/v1/uploads/acme*", lambda route: route.abort("connectionreset"))
        page.get_by_role("button", name="Upload").click()
        page.get_by_role("alert").get_by_text("nothing of Some Model.onnx was kept").wait_for()
        page.evaluate("document.querySelector('[data-upload]').dataset.room = 10")
        page.get_by_role("button", name="Upload").click()
        page.get_by_text("the server takes 10 bytes more").wait_for()


@pytest.mark.long
def test_another_team_s_uploads_are_not_on_the_page(server, chromium):
    """Neither in the list nor at their address."""
    person(server.data, "theirs", Grant("releaser", teams=("zebra",)))
    with as_person(server, "admin") as http:
        for team in ("acme", "zebra"):
            checked(http.post(f"/api/v1/uploads/{team}", params={"name": f"{team}.onnx"}, content=team.encode()))
    with opened(chromium, server.url) as page:
        log_in(page, "theirs", PASSWORD, at="/console/uploads")
        page.get_by_role("link", name="zebra.onnx").wait_for()
        assert "acme" not in page.locator("main").inner_text()
        page.goto(f"/console/uploads/acme/{sha256(b'acme')}")
        page.get_by_text("there is no such team").wait_for()
        assert page.get_by_role("button", name="Remove").count() == 0


def test_what_was_signed_since_is_marked(server, chromium):
    """With the module that has the very bytes; what nobody signed says so."""
    with as_person(server, "admin") as http:
        owner = Publisher(http)
        owner.found()
        for data in (b"signed since", b"not yet"):
            checked(http.post("/api/v1/uploads/acme", params={"name": f"{data.decode()}.bin"}, content=data))
        manifest = owner.upload("since", {"model.onnx": b"signed since"})
        with opened(chromium, server.url) as page:
            log_in(page, "admin", PASSWORD, at="/console/uploads")
            row = page.locator(".ef-line").filter(has_text="signed since.bin")
            row.get_by_text("not signed").wait_for()
            owner.sign(manifest)
            page.reload()
            row.get_by_role("link", name=str(manifest.ref)).wait_for()
            page.locator(".ef-line").filter(has_text="not yet.bin").get_by_text("not signed").wait_for()
            page.get_by_role("link", name="signed since.bin").click()
            page.get_by_role("heading", name="Sign it again").wait_for()
            page.get_by_role("link", name=str(manifest.ref)).wait_for()


@pytest.mark.long
def test_who_may_not_bring_models_has_no_form(server, chromium):
    person(server.data, "looks", "viewer")
    with opened(chromium, server.url) as page:
        log_in(page, "looks", PASSWORD, at="/console/uploads")
        page.get_by_role("heading", name="Uploaded").wait_for()
        assert page.get_by_role("button", name="Upload").count() == 0
        page.goto(f"/console/uploads/acme/sha256:{'0' * 64}")
        page.get_by_text("there is no such upload").wait_for()
