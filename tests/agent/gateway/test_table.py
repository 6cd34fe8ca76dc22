"""The routing table as a file between two processes."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gateway import table
from modules.errors import Invalid
from modules.protocol.routing import Fallback, Route, Table, Upstream
from tests.doubles.disk import Disk
from tests.parts.pace import stretched

upstreams = st.builds(
    Upstream,
    socket=st.from_regex(r"/[a-z0-9./-]{1,80}", fullmatch=True),
    module=st.text(max_size=20),
    provider=st.text(max_size=20),
    instance=st.text(max_size=20),
)
fallbacks = st.builds(Fallback, url=st.from_regex(r"https://[a-z]{1,10}(/[a-z]{1,5})?", fullmatch=True))
routes = st.builds(
    Route,
    current=st.none() | upstreams,
    previous=st.none() | upstreams,
    fallback=st.none() | fallbacks,
    hold=st.booleans(),
)
tables = st.builds(
    Table,
    generation=st.integers(0, 2**40),
    slots=st.dictionaries(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True), routes, max_size=4),
)


@given(tables)
def test_a_table_comes_back_as_it_was_written(tmp_path_factory, written):
    """What the agent writes is what the gateway reads."""
    path = tmp_path_factory.getbasetemp() / "table.json"
    table.write(path, written)

    assert table.read(path) == written


def test_only_the_group_may_read_it(tmp_path):
    """Owner writes, group reads, others have no business with it; no draft stays behind."""
    path = tmp_path / "table.json"
    mask = os.umask(0o077)
    try:
        table.write(path, Table(generation=1, slots={}))
    finally:
        os.umask(mask)

    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in tmp_path.iterdir()] == ["table.json"]


def test_a_table_is_whole_after_a_power_cut(tmp_path, monkeypatch):
    """The gateway starts with what is there, before the agent does: never with half a table, or an empty one."""
    disk, path = Disk(monkeypatch), tmp_path / "table.json"
    table.write(path, Table(generation=1, slots={}))

    assert disk.synced(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"generation": 1',
        b'{"generation": 1, "slots": []}',
        b" " * (table.MAX_BYTES + 1),
    ],
    ids=["empty", "torn", "slots", "huge"],
)
def test_nonsense_is_invalid(tmp_path, content):
    """A file that is no routing table is refused with its path and a remedy."""
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=r"table\.json"):
        table.read(path)


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("agent.gateway.table", {"aiohttp", "asyncio", "ssl"}),
        (
            "agent.gateway.__main__",
            {"tuf", "cryptography", "paho", "aiomqtt", "pydantic", "securesystemslib", "sqlite3"},
        ),
    ],
)
def test_what_each_process_carries(module, banned):
    """The agent gets no web library through the table, and the gateway nothing of trust, MQTT or storage."""
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    # Measuring coverage loads modules of its own.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, timeout=stretched(20), env=bare)

    assert not banned & set(loaded.stdout.split())


GOOD = b'{"current": {"socket": "/s", "module": "m", "provider": "", "instance": "i"}}'


@pytest.mark.parametrize(
    "bad",
    [
        b'"../x": {}',
        b'"bad": {"current": {"socket": "x", "module": "", "provider": "", "instance": ""}}',
        b'"bad": {"hold": 1e300}',
    ],
    ids=["slot name", "socket", "hold"],
)
def test_one_bad_route_refuses_itself_alone(bad):
    """The other slots are served, and who looks is told which one cannot be used and why."""
    parsed = table.parse(b'{"generation": 7, "slots": {"good": %s, %s}}' % (GOOD, bad), element="t")

    assert (parsed.table.generation, list(parsed.table.slots), len(parsed.refused)) == (7, ["good"], 1)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "https://h/?q=1", "https://h/#x", "https://h/" + "x" * 1000])
def test_a_bad_fallback_takes_no_local_module_away(url):
    """The slot is served on the device, without its fallback, and the reason is told."""
    content = b'{"generation": 1, "slots": {"a": {%s, "fallback": {"url": "%s"}}}}' % (GOOD[1:-1], url.encode())
    parsed = table.parse(content, element="t")

    assert parsed.table.slots["a"].current.socket == "/s"
    assert parsed.table.slots["a"].fallback is None
    assert "url" in parsed.refused["a"]
