"""A page hears the browser that it was given to, and nobody else, whoever knows its id."""

import json
import re
from contextlib import contextmanager

import pytest
from websockets.sync.client import connect

from fleet.people.identify import COOKIE
from tests.doubles.publisher import checked
from tests.fleet.console.conftest import as_person, person
from tests.parts.fleet_server import trusting

pytestmark = pytest.mark.needs("mosquitto")
OPEN, REFUSED = "40{", "44"


def page_of(http, address):
    """A page's id, and what is in it."""
    text = checked(http.get(f"/console{address}")).text
    return re.search(r"client_id\W+([0-9a-f-]{36})", text)[1], text


@contextmanager
def socket(server, page, session):
    """A connection as browsers make it, and its answer."""
    asked = f"EIO=4&transport=websocket&client_id={page}&tab_id=t&document_id=d&implicit_handshake=true"
    there = f"{server.url.replace('https', 'wss')}/console/_nicegui_ws/socket.io/?{asked}"
    cookie = {"Cookie": f"{COOKIE}={session}"} if session else {}
    with connect(there, origin=server.url, ssl=trusting(server.data.ca), additional_headers=cookie) as made:
        made.recv(timeout=10)
        made.send("40")
        yield made, made.recv(timeout=10)


def click(page, text, words):
    """What a browser says when somebody clicks the element with these words."""
    before, after = text.split(f'"text":"{words}"', 1) if f'"text":"{words}"' in text else text.split(words, 1)
    element = re.findall(r'"(\d+)":\{"tag"', before)[-1]
    listener = re.search(r'"listener_id":"([0-9a-f-]{36})","type":"click"', after)[1]
    event = {"client_id": page, "id": int(element), "listener_id": listener, "args": ["{}"]}
    return "42" + json.dumps(["event", event])


def test_a_page_does_what_its_own_browser_asks_alone(server):
    """Not for a connection without its cookie, nor for somebody else's page; nor does anybody write into the log."""
    person(server.data, "stranger", "viewer")
    with as_person(server, "admin") as http, as_person(server, "stranger") as other:
        page, text = page_of(http, "/settings")
        mine = http.cookies[COOKIE]
        for session in ("", other.cookies[COOKIE]):
            with socket(server, page, session) as (_, answer):
                assert answer.startswith(REFUSED)
        leave = click(page, text, "New token")
        theirs, _ = page_of(other, "/settings")
        with socket(server, page, mine) as (own, answer), socket(server, theirs, other.cookies[COOKIE]) as (foreign, _):
            assert answer.startswith(OPEN)
            foreign.send(leave)
            foreign.send("42" + json.dumps(["log", {"client_id": theirs, "level": "error", "message": "forged " * 9}]))
            foreign.send('420["handshake",{"client_id":"x"}]')
            while not foreign.recv(timeout=10).startswith("430"):
                pass
            own.send(leave)
            heard = ""
            while "Make it" not in heard:
                heard = own.recv(timeout=10)
            # Whoever was heard before would have had the dialog made then.
            own.send('421["handshake",{"client_id":"x"}]')
            rest = [heard]
            while not rest[-1].startswith("431"):
                rest.append(own.recv(timeout=10))
            assert "".join(rest).count('"Make it"') == 1
    assert "forged" not in server.log()


def test_a_file_is_dropped_by_a_pages_own_browser_and_is_not_endless(server):
    with as_person(server, "admin") as http, server.client("none") as other:
        del other.headers["Authorization"]
        page, _ = page_of(http, "/settings")
        there = f"/console/_nicegui/client/{page}/upload/1"
        assert other.post(there, content=b"x").status_code == 403
        assert http.post(there, content=iter([b"x"])).status_code == 413
        assert http.post(there, content=b"x").status_code == 404  # this page takes none
