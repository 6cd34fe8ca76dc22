"""What is asked of a container host's engine, and of whom, by stand-ins that answer as engines do."""

import threading
import time

import pytest

from fleet.authority import Authority
from fleet.refusals import TargetTrouble
from fleet.targets.container import observed
from fleet.targets.container.endings import _AT_ONCE, Endings
from fleet.targets.container.engine import connect
from fleet.targets.container.plan import Seen
from fleet.targets.groups import SeenReplica
from tests.fleet.targets.test_asking import listening, named, said
from tests.parts.pace import stretched

VERSION = b'{"ApiVersion": "1.41"}'


@pytest.mark.parametrize("bundle", ["", "theirs.pem"])
def test_an_engine_is_believed_by_the_authority_that_was_named(tmp_path, monkeypatch, bundle):
    """Another one that answers there is told nothing, whomever the server's environment has its libraries believe."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / bundle) if bundle else "")
    ours, theirs = (Authority.create("fleet", time.time) for _ in range(2))
    (tmp_path / "ca.pem").write_text(ours.pem)
    (tmp_path / "theirs.pem").write_text(theirs.pem)
    mine = str(named(tmp_path, ours, "me.example"))
    attached = {"ca": str(tmp_path / "ca.pem"), "certificate": mine, "key": mine}
    with listening(said(VERSION), named(tmp_path, ours)) as (url, asked):
        connect(url.replace("https", "tcp"), **attached).close()
    assert asked
    with (
        listening(said(VERSION), named(tmp_path, theirs)) as (url, asked),
        pytest.raises(TargetTrouble, match="does not answer"),
    ):
        connect(url.replace("https", "tcp"), **attached)
    assert not asked


class Engine:
    """Stops a container when it is let; ``details`` are what it says of a container's memory."""

    def __init__(self):
        self.stopped, self.goes_on, self.ended = [], threading.Event(), threading.Semaphore(0)

    def stop(self, container, timeout):
        self.stopped.append(container)
        self.goes_on.wait(stretched(10))

    def remove_container(self, container, force, v):
        self.ended.release()

    def stats(self, container, stream, one_shot):
        return {"memory_stats": {"usage": 10 << 20, "stats": {"inactive_file": 4 << 20}}}


def test_so_many_end_at_a_time_and_each_once():
    """What is left is ended by a later look; and what somebody started again meanwhile is ended again."""
    engine, endings = Engine(), Endings()
    try:
        for number in (*range(_AT_ONCE + 5), 0):
            endings.begin(engine, f"c{number}", 1)
        assert len(endings._ending) == _AT_ONCE
    finally:
        engine.goes_on.set()
    for _ in range(_AT_ONCE):
        assert engine.ended.acquire(timeout=stretched(10))
    assert sorted(engine.stopped) == sorted(f"c{number}" for number in range(_AT_ONCE))
    for thread in [one for one in threading.enumerate() if one.name == "ending"]:
        thread.join(stretched(10))
    endings.begin(engine, "c0", 1)
    assert engine.ended.acquire(timeout=stretched(10))


def test_the_kernels_cache_of_its_files_is_no_memory_of_a_replica():
    """It goes when somebody needs the room; a replica that does not run has none."""
    replicas = (
        SeenReplica(name="up", group="v1", number=0, running=True),
        SeenReplica(name="down", group="v1", number=1, running=False),
    )
    assert observed.memory(Engine(), Seen(replicas=replicas)) == {"up": 6.0}
