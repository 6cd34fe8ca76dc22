"""What an engine may answer about containers, and what follows from it: quick, and what no healthy engine says, too."""

import gzip
import json

import msgspec
import pytest

from agent.engines.contract import Instance, Launch, Usage
from agent.engines.docker import DockerEngine
from agent.engines.docker_api import CALL_S, ApiError, Version
from agent.installation import Installation
from modules import canonical
from modules.digests import measure_bytes, sha256
from modules.errors import EngineBusy, NoSpace, NotReady, Untrusted
from modules.manifest import Runtime
from modules.names import device_id
from modules.oci import blob_path
from tests.doubles.release import make

DEVICE = device_id("device-1")
OURS, OTHERS = "0123456789ab", "fedcba987654"
IMAGE = make().manifest.runtimes[0].image
DIGEST = sha256(b"module")


def frames(*texts):
    return b"".join(b"\x01\0\0\0" + len(text).to_bytes(4, "big") + text for text in texts)


class Api:
    """Has the interface of ``DockerApi``: an engine's containers in memory, by id, and what it was asked.

    ``refuses`` holds what it answers with instead, by method and the end of a path.
    """

    socket_path = "/engine.sock"

    def __init__(self):
        self.is_podman = False
        self.containers = {}
        self.listed = {}
        self.asked, self.refuses = [], {}
        self.log, self.stats = b"", {}
        self.image = {"Id": IMAGE.config.sha256, "Config": {}}
        self.taken, self.root = set(), ""

    def has(self, number, *, instance="main-1", installation=OURS, status="running", mounts=(), **more):
        """Put a container there; ``more`` is of its state, or its labels where it begins so."""
        labels = {
            "edgefleet.device": DEVICE,
            "edgefleet.installation": installation,
            "edgefleet.instance": instance,
            "edgefleet.slot": "main",
            "edgefleet.digest": DIGEST,
        }
        labels = {name: text for name, text in labels.items() if text is not None}
        self.containers[f"c{number}"] = {
            "Id": f"c{number}",
            "Image": "0" * 64,
            "Config": {"Labels": labels},
            "State": {"Status": status, "ExitCode": 0, "OOMKilled": False, "StartedAt": ""} | more,
            "Mounts": [{"Source": source} for source in mounts],
        }
        self.listed[f"c{number}"] = {"Id": f"c{number}", "Labels": labels, "Names": [f"/name-{number}"]}

    def _told(self, method, path, **said):
        self.asked.append((method, path, said))
        for (refused, end), error in self.refuses.items():
            if method == refused and path.endswith(end):
                raise error

    def version(self):
        return Version(api="1.41", version="20.10", components=({"Name": "Podman Engine"},) if self.is_podman else ())

    def get(self, path, **query):
        self._told("GET", path, **query)
        if path == "/info":
            return {"Driver": "overlay2", "CgroupVersion": "2", "DockerRootDir": self.root}
        if path.startswith("/images/"):
            if self.image is None:
                raise ApiError(404, "no such image")
            return dict(self.image)
        if path == "/containers/json":
            (label,) = json.loads(query["filters"])["label"]
            name, _, value = label.partition("=")
            assert query["all"] == "1", "ended ones, too"
            return [one for one in self.listed.values() if name in one["Labels"] and value in {"", one["Labels"][name]}]
        _, _, container, what = path.split("/")
        if container not in self.containers:
            raise ApiError(404, "no such container")
        return self.stats if what == "stats" else self.containers[container]

    def raw(self, path, **query):
        self._told("GET", path, **query)
        return self.log

    def post(self, path, body=None, *, timeout=None, **query):
        self._told("POST", path, timeout=timeout, **query)
        if path == "/containers/create":
            if query.get("name") in self.taken:
                raise ApiError(409, f'the name "{query["name"]}" is already in use')
            self.has(9, instance=body["Labels"]["edgefleet.instance"], status="created")
            return {"Id": "c9"}
        if path.endswith("/start"):
            self.containers[path.split("/")[2]]["State"]["Status"] = "running"
        return None

    def delete(self, path, **query):
        self._told("DELETE", path, **query)
        self.containers.pop(path.split("/")[2], None)
        self.listed.pop(path.split("/")[2], None)

    def did(self, method):
        return [path for one, path, _ in self.asked if one == method]


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def engine(api, tmp_path):
    return DockerEngine(DEVICE, Installation(id=OURS, modules=tmp_path / "modules"), api)


@pytest.fixture
def launch(tmp_path):
    for name in ("module", "run"):
        (tmp_path / name).mkdir()
    return Launch(
        instance="main-1",
        slot="main",
        digest=DIGEST,
        module_dir=str(tmp_path / "module"),
        socket_dir=str(tmp_path / "run"),
        runtime=Runtime(image=IMAGE),
        providers=("CPUExecutionProvider",),
        memory_mb=64,
        group=4711,
    )


def busy(engine_call):
    return pytest.raises(EngineBusy, match=f"the engine could not {engine_call}: so it is")


ERROR = ApiError(500, "so it is")
GONE = ApiError(404, "no such container")


class TestStart:
    async def test_what_runs_already_is_left_as_it_is(self, engine, api, launch):
        """An agent that forgot what it did finds it: nothing is made, nothing is removed."""
        api.has(1)
        assert (await engine.start(launch)).state == "running"
        assert (api.did("POST"), api.did("DELETE")) == ([], [])

    @pytest.mark.parametrize("left", ["ended", "of another module", "two of them"])
    async def test_what_lies_in_the_way_is_replaced(self, engine, api, launch, left):
        """One that has ended, that runs something else, and a copy that somebody made: each is removed first."""
        api.has(1, status="exited" if left == "ended" else "running")
        if left == "of another module":
            api.containers["c1"]["Config"]["Labels"]["edgefleet.digest"] = sha256(b"other")
        if left == "two of them":
            api.has(2)
        started = await engine.start(launch)

        assert (started.instance, started.state, list(api.containers)) == ("main-1", "running", ["c9"])
        assert api.did("POST") == ["/containers/create", "/containers/c9/start"]

    async def test_a_container_has_the_name_of_its_instance(self, engine, api, launch):
        """And one of the engine's where somebody else has taken that; another refusal is no question of names."""
        await engine.start(launch)
        name = f"edgefleet.device-1.{OURS}.main-1"
        api.taken.add(name)
        await engine.stop("main-1", grace_s=0)
        await engine.start(launch)
        assert [said.get("name") for _, path, said in api.asked if path == "/containers/create"] == [name, name, None]

        api.refuses["POST", "/create"] = ApiError(400, "bad parameter")
        await engine.stop("main-1", grace_s=0)
        asked = len(api.did("POST"))
        with pytest.raises(NotReady, match="could not start it: bad parameter"):
            await engine.start(launch)
        assert len(api.did("POST")) == asked + 1, "it was tried again under another name"

    @pytest.mark.parametrize(
        ("words", "error"), [("No space left on device", NoSpace), ("exec format error", NotReady)]
    )
    async def test_nothing_is_left_of_what_did_not_start(self, engine, api, launch, words, error):
        """A full disk is the device's trouble, anything else the module's; the container goes either way."""
        api.refuses["POST", "/start"] = ApiError(500, words)
        with pytest.raises(error, match=words):
            await engine.start(launch)
        assert api.containers == {}

    async def test_one_that_goes_while_it_starts_was_not_ready(self, engine, api, launch):
        """Somebody removed it between its start and the look at it."""
        api.refuses["GET", "/containers/c9/json"] = GONE
        with pytest.raises(NotReady, match="removed while it started"):
            await engine.start(launch)

    async def test_without_the_signed_image_nothing_starts(self, engine, api, launch):
        """Neither where the engine does not hold it nor where the module names none."""
        with pytest.raises(Untrusted, match="no image with the signed digests"):
            await engine.start(msgspec.structs.replace(launch, runtime=Runtime()))
        api.image = None
        with pytest.raises(Untrusted, match="no image with the signed digests"):
            await engine.start(launch)
        assert api.did("POST") == []

    @pytest.mark.parametrize("missing", ["module", "run"])
    async def test_a_folder_that_is_missing_is_not_made(self, engine, api, launch, tmp_path, missing):
        """Podman would mount an empty one of root's."""
        (tmp_path / missing).rmdir()
        with pytest.raises(NotReady, match="folder to be mounted is missing"):
            await engine.start(launch)
        assert api.did("POST") == []


class TestStop:
    async def test_it_is_asked_first_and_waited_for(self, engine, api):
        """In whole seconds, rounded up, and as much longer as any answer may take; then it goes with all it has."""
        api.has(1)
        await engine.stop("main-1", grace_s=2.1)
        assert api.asked[1:2] == [("POST", "/containers/c1/stop", {"timeout": 3 + CALL_S, "t": "3"})]
        assert ("DELETE", "/containers/c1", {"force": "1", "v": "1"}) in api.asked

    @pytest.mark.parametrize("error", [GONE, ERROR, ApiError(503, "so it is")])
    async def test_one_that_is_gone_or_does_not_end_is_removed(self, engine, api, error):
        """By force, which is the next thing anyway."""
        api.has(1)
        api.refuses["POST", "/stop"] = error
        await engine.stop("main-1", grace_s=1)
        assert api.containers == {}

    async def test_a_refusal_to_stop_is_the_engines(self, engine, api):
        """It is tried again, and nothing is removed meanwhile."""
        api.has(1)
        api.refuses["POST", "/stop"] = ApiError(409, "so it is")
        with busy("stop it"):
            await engine.stop("main-1", grace_s=1)
        assert list(api.containers) == ["c1"]

    async def test_a_removal_that_fails_is_the_engines(self, engine, api):
        """But one that is gone is as good as removed."""
        api.has(1)
        api.refuses["DELETE", "c1"] = ERROR
        with busy("remove it"):
            await engine.stop("main-1", grace_s=1)
        api.refuses["DELETE", "c1"] = GONE
        await engine.stop("main-1", grace_s=1)


class TestList:
    async def test_ours_by_name(self, engine, api):
        """All of this installation's, by their names, and of two with one name the one that runs."""
        api.has(1, instance="b")
        api.has(2, instance="a", status="exited")
        api.has(3, instance="b", status="exited")
        api.has(4, instance="c", installation=OTHERS)
        assert [(one.instance, one.state) for one in await engine.list()] == [("a", "exited"), ("b", "running")]
        api.listed = dict(reversed(api.listed.items()))
        assert [(one.instance, one.state) for one in await engine.list()] == [("a", "exited"), ("b", "running")]

    async def test_one_that_goes_between_two_questions_is_gone(self, engine, api):
        """It was listed and cannot be shown: nobody is told of it."""
        api.has(1)
        api.has(2, instance="b")
        del api.containers["c1"]
        assert [one.instance for one in await engine.list()] == ["b"]

    async def test_an_engine_that_cannot_list_or_show(self, engine, api):
        """It says nothing of what runs, and that is not the same as that nothing runs."""
        api.has(1)
        api.refuses["GET", "/c1/json"] = ERROR
        with busy("show it"):
            await engine.list()
        api.refuses["GET", "/containers/json"] = ERROR
        with busy("list containers"):
            await engine.list()

    async def test_one_from_before_is_known_by_its_module(self, engine, api, tmp_path):
        """Agents of before wrote no installation: what runs from this folder is ours, what runs from another is not."""
        api.has(1, instance="a", installation=None, mounts=["/elsewhere", str(tmp_path / "modules" / "0")])
        api.has(2, instance="b", installation=None, mounts=["/elsewhere", ""])
        api.has(3, instance="c", installation=None)
        api.has(4, instance="", installation=OURS)
        assert [one.instance for one in await engine.list()] == ["a"]
        api.listed["c1"]["Mounts"] = [{"Source": "/elsewhere"}]
        assert await engine.list() == [], "where the list has mounts they count"

    async def test_without_an_installation_nothing_is_ours_by_label(self, api, tmp_path):
        """An agent that has no id yet does not take those of others that have none."""
        api.has(1, installation="")
        engine = DockerEngine(DEVICE, Installation(id="", modules=tmp_path), api)
        assert await engine.list() == []

    async def test_namesakes_are_those_of_others_with_our_device(self, engine, api):
        """By the name that a person sees, or the id where there is none; never our own."""
        api.has(1)
        api.has(2, installation=OTHERS)
        api.has(3, installation=OTHERS)
        api.listed["c3"]["Names"] = None
        assert await engine.namesakes() == ["c3", "name-2"]


class TestInstance:
    async def shown(self, engine, api, **state):
        api.has(1, **state)
        (found,) = await engine.list()
        return found

    async def test_one_that_runs(self, engine, api):
        """With the time that it began, the image that it was made of, and no exit code whatever the engine says."""
        found = await self.shown(engine, api, StartedAt="2026-01-01T00:00:00.5Z", ExitCode=0)
        assert found == Instance(
            instance="main-1",
            slot="main",
            digest=DIGEST,
            state="running",
            started_at=1767225600.5,
            image=f"sha256:{'0' * 64}",
        )

    @pytest.mark.parametrize("never", ["", "0001-01-01T00:00:00Z"])
    async def test_one_that_never_began(self, engine, api, never):
        """An engine's zero time is none."""
        assert (await self.shown(engine, api, status="created", StartedAt=never)).started_at == 0.0

    @pytest.mark.parametrize(
        ("podman", "state", "oom", "detail"),
        [
            (False, {"ExitCode": 137}, False, ""),
            (True, {"ExitCode": 137}, True, "out of memory"),
            (True, {"ExitCode": 1}, False, ""),
            (True, {"ExitCode": 137, "status": "running"}, False, ""),
            (False, {"ExitCode": 1, "OOMKilled": True}, True, "out of memory"),
            (False, {"ExitCode": 127, "Error": "no such file"}, False, "no such file"),
        ],
    )
    async def test_one_that_ended(self, engine, api, podman, state, oom, detail):
        """For its memory or not, as far as the engine knows; of Podman, that forgets it, a kill is taken as that."""
        api.is_podman = podman
        found = await self.shown(engine, api, **{"status": "exited"} | state)
        assert (found.oom, found.detail) == (oom, detail)
        assert found.exit_code == (None if state.get("status") else state["ExitCode"])

    async def test_labels_and_states_that_are_missing(self, engine, api):
        """A container that a person labelled, in the words of an engine that leaves out what it takes for granted."""
        api.has(1, status="exited")
        for name in ("edgefleet.slot", "edgefleet.digest"):
            del api.containers["c1"]["Config"]["Labels"][name]
        api.containers["c1"]["State"] = {"Status": "exited"}
        (found,) = await engine.list()
        assert (found.slot, found.digest, found.exit_code, found.started_at, found.oom) == ("", "", 0, 0.0, False)


class TestLogs:
    async def test_the_end_of_the_newest(self, engine, api):
        """So many bytes of both streams; a character that is cut is shown as such."""
        api.has(1)
        api.has(2)
        api.log = frames("älter\n".encode(), b"end\n")
        assert await engine.logs("main-1", tail_bytes=100) == "älter\nend\n"
        assert await engine.logs("main-1", tail_bytes=10) == "\ufffdlter\nend\n"
        assert api.asked[-1] == (
            "GET",
            "/containers/c2/logs",
            {"stdout": "1", "stderr": "1", "tail": "5000"},
        )

    async def test_of_what_is_not_there(self, engine, api):
        """Nothing, whether it was not listed or goes meanwhile; another failure is the engine's."""
        assert await engine.logs("main-1", tail_bytes=100) == ""
        api.has(1)
        api.refuses["GET", "/logs"] = GONE
        assert await engine.logs("main-1", tail_bytes=100) == ""
        api.refuses["GET", "/logs"] = ERROR
        with busy("show its log"):
            await engine.logs("main-1", tail_bytes=100)


MIB = 1 << 20
CPU = {"cpu_usage": {"total_usage": 1_500_000_000}}


class TestUsage:
    @pytest.mark.parametrize(
        ("stats", "usage"),
        [
            ({"memory_stats": {"usage": 5 * MIB}, "cpu_stats": CPU}, Usage(memory_mb=5.0, cpu_s=1.5, tasks=0)),
            (
                {
                    "memory_stats": {"usage": 5 * MIB, "stats": {"inactive_file": 2 * MIB}},
                    "cpu_stats": CPU,
                    "pids_stats": {"current": 7},
                },
                Usage(memory_mb=3.0, cpu_s=1.5, tasks=7),
            ),
            (
                {
                    "memory_stats": {"usage": 5 * MIB, "stats": {"inactive_file": 2 * MIB, "total_inactive_file": MIB}},
                    "cpu_stats": CPU,
                    "pids_stats": {},
                },
                Usage(memory_mb=4.0, cpu_s=1.5, tasks=0),
            ),
            (
                {
                    "memory_stats": {"usage": MIB, "stats": {"inactive_file": 2 * MIB}},
                    "cpu_stats": CPU,
                    "pids_stats": None,
                },
                Usage(memory_mb=0.0, cpu_s=1.5, tasks=0),
            ),
            ({"memory_stats": {}, "cpu_stats": CPU}, None),
            ({"memory_stats": None}, None),
            (None, None),
        ],
        ids=["little", "cgroup v2", "cgroup v1", "more cache than use", "ended", "ended on Podman", "gone"],
    )
    async def test_figures_of_engines(self, engine, api, stats, usage):
        """MiB without the page cache, seconds, tasks; what has ended meanwhile has none."""
        api.has(1)
        api.stats = stats
        assert await engine.usage("main-1") == usage

    async def test_only_what_runs_has_any(self, engine, api):
        """The engine is asked for no other, and of two copies it is the one that runs."""
        api.stats = {"memory_stats": {"usage": MIB}, "cpu_stats": CPU}
        assert await engine.usage("main-1") is None
        api.has(1)
        api.has(2, status="exited")
        assert (await engine.usage("main-1")).memory_mb == 1.0
        assert api.did("GET")[-1] == "/containers/c1/stats"
        api.containers["c1"]["State"]["Status"] = "exited"
        assert await engine.usage("main-1") is None

    @pytest.mark.parametrize(("status", "fails"), [(404, False), (409, False), (500, True)])
    async def test_one_that_ends_meanwhile(self, engine, api, status, fails):
        """It has none; another failure is the engine's."""
        api.has(1)
        api.refuses["GET", "/stats"] = ApiError(status, "so it is")
        if fails:
            with busy("measure it"):
                await engine.usage("main-1")
        else:
            assert await engine.usage("main-1") is None


async def test_what_an_engine_is(engine, api):
    """Its kind, its version, how it keeps images; one that cannot say it is busy."""
    facts = await engine.facts()
    assert (facts.name, facts.version, facts.detail) == ("docker", "20.10", "Docker, image store overlay2, cgroup v2")
    api.is_podman = True
    assert (await engine.facts()).detail.startswith("Podman, ")
    api.refuses["GET", "/info"] = ERROR
    with busy("describe itself"):
        await engine.facts()


async def test_an_engine_is_asked_for_images_under_the_names_of_this_installation(engine, api, tmp_path):
    """One that somebody brought gets this installation's name beside his; another one's name would keep it for ever."""
    api.image["RepoTags"] = ["somebody:1"]
    await engine.keep_image(IMAGE)
    assert api.asked[-1][2] == {
        "timeout": None,
        "repo": f"edgefleet.local/{OURS}",
        "tag": IMAGE.config.sha256.removeprefix("sha256:")[:16],
    }
    api.refuses["GET", "/images/json"] = ERROR
    with busy("list images"):
        await engine.let_go_images([])


async def test_an_image_is_held_or_loaded_where_there_is_room(engine, api, tmp_path):
    """Held with the signed layers, else not; and none is loaded into the room that is to stay free on the disk."""
    config = canonical.encode({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": ["sha256:1"]}})
    layer = gzip.compress(bytes(1024))
    for data in (config, layer):
        blob_path(tmp_path, measure_bytes(data).sha256).write_bytes(data)
    image = msgspec.structs.replace(IMAGE, config=measure_bytes(config), layers=(measure_bytes(layer),))
    api.image = {"Id": image.config.sha256, "RootFS": {"Layers": ["sha256:1"]}}
    assert await engine.has_image(image, tmp_path)
    assert not await engine.has_image(IMAGE, tmp_path)

    api.root = str(tmp_path)
    assert await engine.image_store() == tmp_path
    assert engine.reserve == 0
    engine.reserve = 1 << 60
    with pytest.raises(NoSpace, match=f"free beyond the reserve at {tmp_path}"):
        await engine.load_image(image, tmp_path)
