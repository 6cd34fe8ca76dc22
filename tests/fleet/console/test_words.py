"""Somebody else's words on a page: in commands that are copied, in answers, in towers of marks; and clicks."""

import asyncio
import base64
import re
import shlex
import subprocess
from contextlib import contextmanager

import pytest
from nicegui import Client, core
from nicegui import json as sent
from nicegui.elements.notification import Notification
from nicegui.page import page

from fleet.console import frame, once, parts, try_answer
from fleet.console.devices_parts import Filters
from fleet.console.pages.try_out import _on_device
from fleet.console.straight import straight

EVIL = "acme/x:1; touch hurt $(touch hurt) `touch hurt` 'a\" \n\x03touch hurt\x1b[201~"


@pytest.mark.parametrize(
    "command",
    [
        _on_device("press-1", "main", EVIL, online=True).command,
        Filters(search=EVIL, selector=EVIL, sort=EVIL).command,
        f"edgefleet rollouts show {parts.quoted(EVIL)}",
    ],
)
def test_a_command_that_is_copied_runs_nothing_else(command, tmp_path):
    """Whatever a device, or the address of a page, says: a shell finds words in it, and a terminal no keys."""
    assert command.isprintable()
    subprocess.run(["bash", "-c", f"edgefleet() {{ :; }}; {command}"], cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())
    assert any("touch hurt" in one for one in shlex.split(command))


def test_marks_are_no_tower_and_letters_stay():
    assert straight(("a" + "\u0301" * 300 + "b\u202e").encode()).decode() == "a" + "\u0301" * 5 + "b\ufffd"
    for words in ("e\u0301\u0323", "שָׁלוֹם", "ภาษาไทย", "cut \ud83d"):
        assert straight(words.encode(errors="surrogatepass")) == words.encode(errors="surrogatepass")


@contextmanager
def drawn():
    """A page that no browser has; what is made inside is in it."""
    core.loop = asyncio.get_running_loop()
    client = Client(page(""))
    with client:
        yield client
    client.delete()


async def test_an_answer_of_half_letters_comes_to_the_page():
    """As JSON has them: the library could not send them, and with them nothing else that had changed."""
    for body in ('{"a": "\\ud800"}', '{"\\ud800": [1, 2, 3]}', "[NaN, 1e999, 3]", f"[1{'0' * 400}]"):
        said = {"status": 200, "ms": 1.0, "content_type": "application/json", "body": base64.b64encode(body.encode())}
        who = dict.fromkeys(("module", "served_by", "version", "provider", "request_id"), "")
        with drawn() as client:
            try_answer.draw({"answer": said | who}, "", [])
            assert re.search("ud800|NaN|1e999|10000", sent.dumps([one._to_dict() for one in client.elements.values()]))


async def test_what_is_refused_again_and_again_is_told_once():
    with drawn() as client:
        notice = frame._Notice()
        for words in ("gone", "gone", "locked", "locked", ""):
            notice.show(words)
        told = [one.message for one in client.elements.values() if isinstance(one, Notification)]
        assert told == ["gone", "locked"]


async def test_twenty_clicks_are_one(monkeypatch):
    """While it is under way, and right after; later it is asked for anew."""
    done, until, now = [], asyncio.Event(), [100.0]
    monkeypatch.setattr(once.time, "monotonic", lambda: now[0])

    async def act(number):
        done.append(number)
        await until.wait()

    clicked = once.once(act)
    first = asyncio.create_task(clicked(0))
    for number in range(1, 20):
        now[0] += 1
        await asyncio.sleep(0)
        await asyncio.wait_for(clicked(number), 1)
    until.set()
    await first
    now[0] += 0.1
    await clicked(20)
    now[0] += 1
    await clicked(21)
    assert done == [0, 21]
