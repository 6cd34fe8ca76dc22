"""A pod's module: fetched over real TLS and verified as on a device, or refused in one line, and nothing is left."""

import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import pytest

from agent.content import __main__ as program
from agent.content import bring, door
from agent.content.__main__ import main
from modules.digests import BLOCK, measure_bytes
from modules.endpoint.keys import EndpointKeys
from modules.protocol.content import DONE, REFUSED, UNREACHED, RoleSeen
from modules.trust import repository, roles
from tests.doubles import keys
from tests.doubles.content_door import KEY, ContentDoor, tampered
from tests.doubles.release import make
from tests.parts.connect_proxy import ConnectProxy
from tests.parts.warm import ROOT

MODEL = b"".join(number.to_bytes(4, "big") for number in range(3 * BLOCK // 4)) + b"the rest"
SOON_S = 30.0


class Pod:
    """A pod's volume and settings, and the fleet server that it is told of."""

    def __init__(self, folder, at) -> None:
        self.publisher = keys.Publisher(now=at)
        self.release = make("acme/digits:3", model=MODEL)
        self.publisher.release("acme/digits:3", data=self.release.data)
        self.door = ContentDoor(folder / "server", self.publisher, self.release)
        self.folder, self.to, self.log = folder, folder / "edgefleet", folder / "termination-log"
        self.to.mkdir()
        self.log.touch()
        self.more = {}

    def start(self, **more) -> int:
        """Run the program here; its exit status."""
        file = self.door.settings(self.folder, **self.more | more)
        return main(["--settings", str(file), "--to", str(self.to), "--termination-log", str(self.log)])

    def command(self, **more) -> list[str]:
        file = self.door.settings(self.folder, **self.more | more)
        return [sys.executable, "-m", "agent.content", "--settings", str(file), "--to", str(self.to),
                "--termination-log", str(self.log)]  # fmt: skip


@pytest.fixture
def pod(tmp_path):
    one = Pod(tmp_path, datetime.now(UTC) - timedelta(hours=1))
    with one.door:
        yield one


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(door, "_FIRST_S", 0.01)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(pod, capsys, status, *words, **more):
    """It ends with this status, says why in one line, twice, and leaves nothing that a scoring server would start."""
    assert pod.start(**more) == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert pod.log.read_text() == said.rstrip("\n")
    for word in words:
        assert word in said
    assert list(pod.to.iterdir()) == []


def test_a_module_is_laid_out_as_a_container_hosts_volume_has_it(pod, capsys):
    """Manifest, files and the key, to read for the pod's users alone; what was needed on the way is gone."""
    assert pod.start() == DONE

    module = pod.to / "module"
    assert names(pod.to) == ["access.json", "module"]
    assert (module / "manifest.json").read_bytes() == pod.release.data
    assert (module / "files/model.onnx").read_bytes() == MODEL
    assert (module / "files/samples.json").stat().st_mode & 0o777 == 0o444
    assert module.stat().st_mode & 0o777 == (module / "files").stat().st_mode & 0o777 == 0o755
    assert (pod.to / "access.json").stat().st_mode & 0o777 == 0o400
    EndpointKeys(pod.to / "access.json").check(f"Bearer {KEY}".encode())
    assert capsys.readouterr().out.startswith("acme/digits:3: 2 files")
    assert pod.log.read_text() == ""


def test_it_starts_anew_over_what_an_earlier_run_left(pod):
    """A pod's init container runs again after a restart of its node: half a draft and an older module go."""
    (pod.to / ".module.draft/files").mkdir(parents=True)
    (pod.to / ".module.draft/files/model.onnx").write_text("half")
    assert pod.start() == DONE
    (pod.to / "module/files/model.onnx").chmod(0o600)
    (pod.to / "module/files/model.onnx").write_text("changed")

    assert pod.start() == DONE
    assert (pod.to / "module/files/model.onnx").read_bytes() == MODEL
    assert names(pod.to) == ["access.json", "module"]


def test_the_program_as_kubernetes_starts_it(pod):
    """As a process: the status, one line on standard error for who may not have it, none for who may."""
    done = subprocess.run(pod.command(), cwd=ROOT, capture_output=True, text=True, timeout=SOON_S, check=False)
    assert (done.returncode, done.stderr) == (DONE, "")

    done = subprocess.run(pod.command(token="x"), cwd=ROOT, capture_output=True, text=True, timeout=SOON_S, check=False)
    assert done.returncode == UNREACHED
    assert done.stderr.count("\n") == 1


def test_a_tampered_block_is_never_written(pod, capsys, monkeypatch):
    """One byte of the last block: what came before it is right, and still nothing stays."""
    blob = pod.release.manifest.file("model.onnx")
    pod.door.blobs[blob.sha256] = tampered(MODEL, -1)
    wrote = []
    monkeypatch.setattr(bring, "_write", partial(_watched, wrote, bring._write))

    refused(pod, capsys, REFUSED, "block 3 is not what was signed, 3 times", blob.sha256)
    assert all(data == MODEL[: len(data)] for name, data in wrote if name == "model.onnx")


def _watched(wrote, write, path, fill, **more):
    try:
        write(path, fill, **more)
    finally:
        wrote.append((path.name, path.read_bytes()))


@pytest.mark.parametrize(
    ("which", "other"),
    [
        ("index", lambda data: tampered(data, 40)),
        ("model", lambda data: data[:-1]),
        ("model", lambda data: data + b"more"),
        ("manifest", tampered),
        ("manifest", lambda data: data + b" "),
    ],
)
def test_other_bytes_than_were_signed_are_refused(pod, capsys, which, other):
    """Index, file or manifest: changed, too short, too long."""
    blob = pod.release.manifest.file("model.onnx")
    name = {"index": blob.blocks, "model": blob.sha256, "manifest": pod.release.digest}[which]
    pod.door.blobs[name] = other(pod.door.blobs[name])

    assert pod.start(within_s=3.0) != DONE
    assert name in pod.log.read_text() or "broke off" in pod.log.read_text()
    assert list(pod.to.iterdir()) == []


def test_bytes_that_were_wrong_once_are_asked_for_again(pod):
    """A flipped bit on the way, or a connection that breaks in the middle, is no end."""
    pod.door.answers = [
        lambda handler: handler.says(503, b'{"detail": "busy"}'),
        *[lambda handler: handler.right()] * 6,
        *[lambda handler: handler.half(), lambda handler: handler.says(200, tampered(handler.found()))],
        lambda handler: handler.right(),
        *[lambda handler: handler.half(), lambda handler: handler.says(200, tampered(handler.found(), BLOCK))],
    ]

    assert pod.start() == DONE
    assert (pod.to / "module/files/model.onnx").read_bytes() == MODEL


def test_metadata_that_is_older_than_the_settings_know_is_refused(pod, capsys):
    """A pod remembers nothing; what the fleet server had when it wrote the settings is its memory."""
    known = pod.door.files.copy()
    pod.publisher.later(minutes=5)
    pod.publisher.publish()
    seen = pod.door.roles()

    pod.door.files = known
    refused(pod, capsys, REFUSED, "trust metadata, timestamp", "had been seen", roles=seen)
    pod.door.files = dict(pod.publisher.files)
    assert pod.start(roles=seen) == DONE


def test_what_the_team_had_signed_before_is_refused(pod, capsys):
    """The team's role, too: an old one could bring back what a floor forbids."""
    mark = pod.door.roles()["team-acme"]
    refused(
        pod, capsys, REFUSED, "team-acme", "had been seen",
        roles={"team-acme": RoleSeen(mark.version + 1, mark.keyids)},
    )  # fmt: skip


def test_another_root_is_refused(pod, capsys):
    """Whoever answers, only what the pinned root leads to is believed."""
    refused(pod, capsys, REFUSED, "trust metadata", root=keys.Publisher(now=pod.publisher.now).first_root)


def test_a_root_that_the_pinned_one_signed_is_followed(pod):
    """As on a device: the settings may carry the first root for years."""
    pod.publisher.replace_online_keys()
    pod.door.files = dict(pod.publisher.files)

    assert pod.start() == DONE


def test_what_nobody_signed_is_refused(pod, capsys):
    """A version that its team has not published, and another manifest than it has."""
    refused(pod, capsys, REFUSED, "[not-published]", module="acme/digits:4")
    other = make("acme/digits:3", model=b"another")
    pod.door.blobs |= other.blobs
    refused(pod, capsys, REFUSED, "[digest-mismatch]", digest=other.digest)


def test_a_version_below_the_floor_is_refused(pod, capsys):
    """As on a device, whatever the settings say."""
    pod.publisher.release("acme/digits:4")
    pod.publisher.set_floor("acme/digits:4")
    pod.door.files = dict(pod.publisher.files)

    refused(pod, capsys, REFUSED, "[below-floor]")


def test_metadata_that_has_expired_is_refused(pod, capsys, monkeypatch):
    """The node's clock, or what the settings know of the time if that is later: a clock in 1970 lets nothing old in."""
    later = pod.publisher.now.timestamp() + timedelta(days=15).total_seconds()
    monkeypatch.setattr(program.time, "time", lambda: 0.0)
    refused(pod, capsys, REFUSED, "expired", written=later)
    monkeypatch.setattr(program.time, "time", lambda: later)
    refused(pod, capsys, REFUSED, "expired", "clock")
    monkeypatch.setattr(program.time, "time", lambda: 0.0)
    assert pod.start() == DONE


def test_a_team_whose_role_has_expired_is_refused(pod, capsys):
    """Though the server goes on signing what is its own."""
    pod.publisher.later(days=181)
    pod.publisher.targets_metadata = repository.renew(
        pod.publisher.targets_metadata,
        role=roles.TARGETS,
        signers=[pod.publisher.targets_signer],
        now=pod.publisher.now,
    )
    pod.publisher.publish()
    pod.door.files = dict(pod.publisher.files)

    refused(pod, capsys, REFUSED, "team-acme", "expired")


def test_a_clock_that_is_wrong_for_the_certificate_is_said(tmp_path, capsys):
    """TLS looks at the dates of the server's certificate; one of tomorrow is named, and nothing is tried again."""
    pod = Pod(tmp_path, datetime.now(UTC))
    pod.door = ContentDoor(
        tmp_path / "tomorrow", pod.publisher, pod.release, clock=lambda: time.time() + timedelta(days=2).total_seconds()
    )
    with pod.door:
        refused(pod, capsys, UNREACHED, "certificate does not hold", "not yet valid", "clock")


def test_a_server_of_another_authority_gets_no_token(pod, tmp_path, capsys):
    """The authority is pinned: a man in the middle learns nothing."""
    with ContentDoor(tmp_path / "another", pod.publisher, pod.release) as other:
        refused(pod, capsys, UNREACHED, "certificate does not hold", url=other.content().url)
        assert other.asked == []


def test_an_expired_token_is_said_at_once(pod, capsys):
    """Trying again is no use before the Secret is renewed; Kubernetes starts the container again."""
    pod.door.answers = [lambda handler: handler.says(401, b'{"detail": "the token has expired"}')]
    refused(pod, capsys, UNREACHED, "refuses the token: the token has expired", "Secret")
    assert len(pod.door.asked) == 1


def test_a_redirect_is_not_followed(pod, capsys):
    """The token would go with it."""
    pod.door.answers = [lambda handler: handler.says(302, b"", Location=handler.double.url + "/elsewhere")]
    refused(pod, capsys, UNREACHED, "it answers 302")
    assert len(pod.door.asked) == 1


def test_what_the_server_does_not_have_is_said(pod, capsys):
    """The endpoint serves another module by now, or its blobs are gone."""
    del pod.door.blobs[pod.release.manifest.file("samples.json").sha256]
    refused(pod, capsys, UNREACHED, "does not have it for this endpoint")


@pytest.mark.parametrize("answer", ["gone", "drip", "busy"])
def test_a_server_that_does_not_answer_is_left_in_time(pod, capsys, answer):
    """Gone, dripping or busy for good: within the bound it ends, and says what it saw last."""
    pod.door.answers = [
        (lambda handler: handler.drip()) if answer == "drip" else (lambda handler: handler.says(503, b"Busy"))
    ] * 1000
    if answer == "gone":
        pod.door.stop()
    begun = time.monotonic()

    refused(pod, capsys, UNREACHED, "fleet server: ", "within 1.5 s", within_s=1.5)
    assert time.monotonic() - begun < SOON_S / 2


def test_a_module_that_is_too_large_is_refused_before_a_byte_of_it_is_written(pod, capsys, monkeypatch):
    """For the volume, and for the node's disk."""
    refused(pod, capsys, UNREACHED, "the volume may have 100000", room_bytes=100_000)
    full = os.statvfs(pod.to)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*full[:3], 1, 1, *full[5:])))
    refused(pod, capsys, UNREACHED, "are free")
    assert not any("blobs/" + file.sha256 in pod.door.asked for file in pod.release.manifest.files)


def test_a_disk_that_fills_meanwhile_is_said(pod):
    """In the middle of a file: one line, and nothing is left."""

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * BLOCK, 2 * BLOCK))

    ended = subprocess.run(
        pod.command(), cwd=ROOT, capture_output=True, text=True, timeout=SOON_S, check=False, preexec_fn=small
    )
    assert ended.returncode == UNREACHED
    assert ended.stderr.count("\n") == 1
    assert "make room" in ended.stderr
    assert list(pod.to.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(pod, capsys):
    """No volume there, or somebody else's."""
    pod.to.rmdir()
    pod.to.write_text("")
    assert pod.start() == UNREACHED
    assert "mount a volume" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [b"", b"{", b"{}", b"[" * 10_000, b" " * (1 << 20)])
def test_settings_that_are_none_are_said(pod, capsys, settings):
    """What somebody has written into the Secret by hand."""
    file = pod.folder / "content.json"
    file.write_bytes(settings)
    assert main(["--settings", str(file), "--to", str(pod.to)]) == REFUSED
    assert "content.json" in capsys.readouterr().err


def test_no_settings_are_said(pod, capsys):
    """The Secret is not mounted."""
    assert main(["--settings", str(pod.folder / "none"), "--to", str(pod.to)]) == UNREACHED
    assert "mount the endpoint's Secret" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/x", "no https address"),
        ("https:///x", "no https address"),
        ("nonsense", "no https address"),
        ("https://127.0.0.1:99999/x", "cannot be read"),
    ],
)
def test_an_address_that_is_none_is_said(pod, capsys, url, why):
    """Nothing goes out in clear."""
    refused(pod, capsys, UNREACHED, why, url=url)


def test_it_goes_through_the_proxy_of_the_environment(pod, monkeypatch):
    """As curl does: https_proxy, but not where no_proxy names the host."""
    proxy = ConnectProxy()
    try:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        assert pod.start() == DONE
        assert [to for to, _ in proxy.asked] == [pod.door.url.removeprefix("https://")]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert pod.start() == DONE
        assert len(proxy.asked) == 1
    finally:
        proxy.close()


def test_an_empty_file_and_one_of_whole_blocks(pod):
    """The ends of what a block index can say."""
    for size in (0, 1, BLOCK, 2 * BLOCK):
        data = os.urandom(size)
        blob = measure_bytes(data)
        release = make(f"acme/digits:{10 + size}", model=data)
        pod.publisher.release(f"acme/digits:{10 + size}", data=release.data)
        pod.door.files, pod.door.blobs = dict(pod.publisher.files), dict(release.blobs)
        assert pod.start(module=str(release.manifest.ref), digest=release.digest) == DONE
        assert measure_bytes((pod.to / "module/files/model.onnx").read_bytes()) == blob


def test_the_key_is_all_that_the_scoring_server_is_told(pod):
    """No token of the content door comes near what runs the module."""
    assert pod.start() == DONE
    assert msgspec.json.decode((pod.to / "access.json").read_bytes()) == {"keys": [KEY]}
