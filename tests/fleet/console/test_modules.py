"""Modules on the page: versions, what is in one, what differs, and who may take one out."""

import pytest

from fleet.console import module_parts
from modules.manifest import Proof
from modules.samples import Sample, Samples, encode
from tests.doubles.publisher import Publisher, checked
from tests.fleet.console.conftest import PASSWORD, person
from tests.fleet.console.test_accessible import faults
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"
SAMPLES = encode(Samples(samples=(Sample(name="seven", body=b'{"data": [1]}', answer=HOSTILE.encode()),)))


@pytest.fixture(scope="module")
def published(server):
    """Two signed versions of a model, of which the second has another graph and hostile words; and a draft."""
    person(server.data, "watcher", "viewer")
    with server.client() as http:
        owner = Publisher(http)
        owner.found()
        for graph, words in ((b"one", "plain"), (b"another one", HOSTILE)):
            files = {"model.onnx": graph, "samples.json": SAMPLES}
            owner.sign(owner.upload("digits", files, proof=Proof(), description=words, tags={"stage": words}))
        measured = {"hardware": HOSTILE[:60], "cpu": 2, "memory_gb": 0.5, "runs": [{"cpu": 2, "problem": HOSTILE}]}
        checked(http.put("/api/v1/modules/acme/digits/2/profiles", json=measured))
        owner.upload("faces", {"model.onnx": b"faces"})
    return server, owner


def test_versions_are_listed_with_their_state_and_compared(published, chromium):
    """Signed by whom, a draft with the command that signs it, and what changed from one version to the next."""
    server, owner = published
    with opened(chromium, server.url) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        log_in(page, "admin", PASSWORD, at="/console/modules")
        page.get_by_text("draft: nobody signed it").wait_for()
        page.get_by_label("Filter by name").fill("digits")
        page.wait_for_url("**/modules?search=digits")
        page.get_by_text("acme/faces").wait_for(state="hidden")
        page.get_by_role("link", name="version 2").click()
        page.get_by_text(owner.team_signer.public_key.keyid).wait_for()
        page.get_by_text("is not an ONNX graph").wait_for()
        page.get_by_text("2 cores and 0.5 GB are enough").wait_for()
        page.get_by_role("button", name="Show the samples").click()
        page.get_by_text('{"data": [1]}').wait_for()
        assert page.get_by_text(HOSTILE).count() >= 3
        assert not faults(page)
        assert page.locator("main script, main img").count() == 0
        page.get_by_label("Compare with version").click()
        page.get_by_role("option", name="1", exact=True).click()
        page.get_by_text("larger").wait_for()
        changed = page.locator(".ef-difference")
        assert changed.filter(has_text="files[model.onnx].sha256").count() == 1
        assert changed.filter(has_text="samples.json").count() == 0
        assert changed.filter(has_text="tags.stage").count() == 1
        assert not faults(page)


def test_a_draft_says_how_it_is_signed_and_is_removed_by_who_may(published, chromium):
    """A viewer has no such button, and reads no files."""
    server, _ = published
    with opened(chromium, server.url) as page:
        log_in(page, "watcher", PASSWORD, at="/console/modules/acme/digits/1")
        page.get_by_text("Your roles read no files of modules").wait_for()
        assert page.get_by_role("button", name="Remove").count() == 0
        assert page.get_by_role("link", name="Roll out").count() == 0
    with opened(chromium, server.url) as page:
        log_in(page, "admin", PASSWORD, at="/console/modules/acme/faces/1")
        page.get_by_text("edgefleet modules sign acme/faces:1 --keys FOLDER").wait_for()
        page.get_by_role("button", name="Remove", exact=True).click()
        page.get_by_role("button", name="Remove it").click()
        page.wait_for_url("**/console/modules")
        page.get_by_text("acme/digits").wait_for()
        assert page.get_by_text("acme/faces", exact=True).count() == 0


@pytest.mark.long
def test_differences_are_told_by_the_names_of_things_and_not_by_their_order():
    """A file that moved in its list did not change."""
    one = {"files": [{"path": "a", "length": 1}, {"path": "b", "length": 2}], "needs": {"memory_mb": 64}}
    two = {"files": [{"path": "b", "length": 2}, {"path": "a", "length": 9}], "needs": {"memory_mb": 64}, "name": "x"}
    assert module_parts.differences(one, two) == [("files[a].length", "1", "9")]
    assert module_parts.differences(one, one) == []
