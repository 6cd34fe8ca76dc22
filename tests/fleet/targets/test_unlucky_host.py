"""A container host on which somebody does things by hand: a real engine, and stand-ins for an endpoint's parts."""

import contextlib
import os
import re
import socket
import subprocess
import threading
import time

import docker
import docker.errors
import msgspec
import pytest

from fleet.refusals import Conflict, TargetTrouble
from fleet.targets.container import front as fronts
from fleet.targets.container import limits, observed, plan, secrets, specs
from fleet.targets.container.endings import clear, end, start_again
from fleet.targets.container.engine import run
from fleet.targets.container.holder import Holder
from fleet.targets.container.host import Attached, ContainerHost
from fleet.targets.container.jobs import Jobs
from fleet.targets.container.plan import Front
from fleet.targets.container.specs import LABEL, JobNames, Names
from fleet.targets.contract import Found, Job, Wanted
from fleet.targets.groups import Group
from fleet.targets.settings import BatchSettings, Settings
from modules.batch_program import STARTS
from modules.errors import Invalid
from modules.names import Slug
from tests.parts import docker as docker_parts
from tests.parts.pace import stretched
from tests.parts.presence import engine_socket

pytestmark = pytest.mark.needs("docker")

FLEET = "feedfeedfeed"
NAMES, JOB = Names(FLEET, Slug("digits")), JobNames(FLEET, Slug("digits"))
GROUP = "v1-12345678"
SLEEPS = ["sleep", "600"]
WANTED = Wanted(
    name=Slug("digits"), versions=[], settings=Settings(), keys=("a" * 32, "b" * 32), token_secret=b"s" * 32
)


@pytest.fixture
def engine():
    client = docker_parts.client()
    yield client
    with contextlib.suppress(docker.errors.NotFound):
        client.images.remove(f"{FLEET}:copy", force=True)
    mark = {"label": f"{LABEL}fleet={FLEET}"}
    for one in client.containers.list(all=True, filters=mark, ignore_removed=True):
        one.remove(force=True)
    for one in (*client.volumes.list(filters=mark), *client.networks.list(filters=mark)):
        one.remove()
    client.close()


@pytest.fixture
def host():
    made = ContainerHost(Attached(docker=f"unix://{engine_socket()}"), fleet=FLEET, blobs=None)
    yield made
    made.close()


def labels(part, *, of=NAMES, group=GROUP, number=0):
    return of.labels | {f"{LABEL}part": part, f"{LABEL}group": group, f"{LABEL}number": str(number)}


@pytest.fixture
def network(engine):
    return engine.networks.create(NAMES.whole, labels=NAMES.labels, internal=True)


@pytest.fixture
def replica(engine, network):
    return engine.containers.run(
        docker_parts.python_slim(engine), SLEEPS, name=NAMES.replica(GROUP, 0), labels=labels("replica"),
        network=NAMES.whole, detach=True, stop_signal="SIGKILL",
    )  # fmt: skip


def seen(engine):
    return observed.look(engine.api, NAMES)


def test_a_copy_of_its_image_is_no_replica_and_stays(engine, host, replica):
    """Whoever looks into a replica by `docker commit` has its labels: the copy is not counted, not asked, not ended."""
    replica.commit(FLEET, "copy")
    copy = engine.containers.run(f"{FLEET}:copy", SLEEPS, name="somebodys", detach=True, stop_signal="SIGKILL")
    assert copy.labels[f"{LABEL}endpoint"] == "digits"
    assert [one.name for one in seen(engine).replicas] == [replica.id[:12]]
    assert host.present() == {Found("endpoint", Slug("digits"))}
    assert list(host.logs(Slug("digits"), lines=5)) == [f"{GROUP}.0"]
    assert host.remove(Slug("digits"))
    copy.reload()
    assert copy.status == "running"
    assert host.present() == frozenset()


def test_labels_that_are_half_ours_break_nothing(engine, host):
    """Of somebody's own container, volume and network: all stay, and the endpoint's removal is whole."""
    mine = {f"{LABEL}fleet": FLEET, f"{LABEL}endpoint": "digits"}
    image = docker_parts.python_slim(engine)
    theirs = engine.containers.create(image, SLEEPS, name="theirs", labels=mine | {f"{LABEL}part": "replica"})
    engine.volumes.create("theirs", labels=mine)
    engine.networks.create("theirs", labels=mine)
    assert (seen(engine).replicas, seen(engine).network, host.present()) == ((), False, frozenset())
    assert host.logs(Slug("digits"), lines=5) == {}
    assert host.remove(Slug("digits"))
    theirs.reload()
    assert [one.name for one in engine.volumes.list(filters={"name": "theirs"})] == ["theirs"]
    assert [one.name for one in engine.networks.list(names=["theirs"])] == ["theirs"]


def test_an_image_that_claims_to_be_a_job_is_none(engine, host, replica):
    """A publisher writes any label into an image: an endpoint's replica does not end with a job of that name."""
    replica.remove(force=True)
    claims = labels("replica") | JOB.labels
    image = docker_parts.python_slim(engine)
    made = engine.containers.run(
        image, SLEEPS, name=NAMES.replica(GROUP, 0), labels=claims, detach=True, stop_signal="SIGKILL"
    )
    Jobs(engine.api, FLEET, None, (), str).end(Slug("digits"))
    made.reload()
    assert made.status == "running"
    job = engine.containers.create(image, SLEEPS, name=JOB.job, labels=labels("job", of=JOB) | NAMES.labels)
    assert host.remove(Slug("digits"))
    job.reload()
    Jobs(engine.api, FLEET, None, (), str).end(Slug("digits"))
    with pytest.raises(docker.errors.NotFound):
        job.reload()


def test_a_name_that_somebody_else_has_is_not_taken_from_them(engine):
    """It is said whose it is, and the container stays as it is."""
    name = NAMES.gateway("12345678")
    theirs = engine.containers.run(docker_parts.python_slim(engine), SLEEPS, name=name, detach=True)
    try:
        with pytest.raises(Conflict, match="not the fleet's has this name"):
            clear(engine.api, name, NAMES.labels)
        theirs.reload()
        assert theirs.status == "running"
    finally:
        theirs.remove(force=True)


@pytest.mark.parametrize("how", ["paused", "stopped"])
def test_a_replica_that_somebody_stopped_runs_again(engine, network, replica, how):
    """Whether it was stopped or paused; meanwhile it is not asked, and it is said why."""
    replica.pause() if how == "paused" else replica.stop(timeout=0)
    (one,) = seen(engine).replicas
    assert (one.running, one.restarting, bool(one.why)) == (False, False, True)
    start_again(engine.api, one.name, [network.id])
    replica.reload()
    assert (replica.status, seen(engine).replicas[0].running) == ("running", True)


@pytest.mark.parametrize("how", ["disconnected", "made anew", "gone"])
def test_a_replica_without_its_network_is_made_anew(engine, network, replica, how):
    """Taken out of it, or stopped while the network was removed: the engine would never start it again."""
    if how == "disconnected":
        network.disconnect(replica)
    else:
        replica.stop(timeout=0)
        network.remove()
        if how == "made anew":
            network = engine.networks.create(NAMES.whole, labels=NAMES.labels, internal=True)
    (one,) = seen(engine).replicas
    assert (one.running, one.restarting) == (False, False)
    assert "out of the endpoint's network" in one.why
    start_again(engine.api, one.name, observed.networks(engine.api, NAMES))
    assert seen(engine).replicas == ()


def test_one_that_never_ran_is_started(engine, network):
    """The server died between making and starting it: it is not taken for one that lost its network."""
    made = engine.containers.create(
        docker_parts.python_slim(engine), SLEEPS, name=NAMES.replica(GROUP, 0), labels=labels("replica"),
        network=NAMES.whole, stop_signal="SIGKILL",
    )  # fmt: skip
    start_again(engine.api, made.id, observed.networks(engine.api, NAMES))
    assert seen(engine).replicas[0].running


def test_a_gateway_without_its_network_is_dead_and_a_paused_one_is_not(engine, network):
    """The one is made anew; the other goes on, and owes nobody an answer that it does not give."""
    name = NAMES.gateway("12345678")
    gateway = engine.containers.run(
        docker_parts.python_slim(engine), SLEEPS, name=name, labels=labels("gateway") | {f"{LABEL}made": "12345678"},
        network=NAMES.whole, detach=True, stop_signal="SIGKILL",
    )  # fmt: skip
    gateway.pause()
    (one,) = seen(engine).gateways
    assert (one.running, one.paused, one.dead, one.why) == (False, True, False, "somebody paused its container")
    start_again(engine.api, one.name, [network.id])
    assert seen(engine).gateways[0].running
    network.disconnect(gateway)
    assert seen(engine).gateways[0].dead


def test_two_that_end_the_same_container_do_not_quarrel(engine, replica):
    """A look that ends a replica and a removal, at the same moment: neither is an error, and it is gone."""
    wrong = []

    def ends():
        client = docker_parts.client()
        try:
            end(client.api, replica.id, within_s=0)
        except docker.errors.APIError as error:
            wrong.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=ends) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []
    assert seen(engine).replicas == ()


def test_a_port_that_somebody_has_is_said(engine, host):
    """In the engine's words; what holds it is not touched, and it holds up nothing else of the endpoint."""
    image = docker_parts.gateway_image(engine)
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        port = theirs.getsockname()[1]
        front = Front(keeper="12345678", gateway="12345678", port=port)
        (trouble,) = host._make(WANTED, NAMES, [], front, image)
    assert re.search(f"{port}.*in use", trouble)
    assert (seen(engine).network, len(seen(engine).gateways)) == (True, 1)
    # Free again, the next look has it.
    assert host._make(WANTED, NAMES, [], front, image) == []
    assert seen(engine).keeper(front).running


def test_a_log_without_an_end_is_shown_in_part(engine, network):
    """Of a container that writes for ever, and no line of it ends: some KiB, without control characters."""
    script = "import sys\nwhile True: sys.stdout.write('\\x1b[31mx' * 4096)"
    body = {"LogConfig": specs._LOG, "NetworkMode": NAMES.whole}
    made = engine.api.create_container_from_config(
        {"Image": docker_parts.python_slim(engine), "Cmd": ["python3", "-c", script], "StopSignal": "SIGKILL",
         "Labels": labels("replica"), "HostConfig": body},
        name=NAMES.replica(GROUP, 0),
    )  # fmt: skip
    engine.api.start(made["Id"])
    text = observed.logs(engine.api, NAMES, lines=2000)[f"{GROUP}.0"]
    assert len(text) <= 4 * observed._MOST
    assert "\x1b" not in text


def confined(engine, body, name, **more):
    """A container as the fleet makes it, that sleeps instead."""
    sleeps = {"Entrypoint": None, "Cmd": SLEEPS, "StopSignal": "SIGKILL"} | more
    made = engine.api.create_container_from_config(limits.labelled(body | sleeps), name=name)
    engine.api.start(made["Id"])
    return engine.containers.get(made["Id"])


@pytest.fixture
def limited(engine, network):
    """A replica with the limits of one, and a volume of the fleet's."""
    engine.volumes.create(NAMES.content(GROUP), labels=labels("content"))
    group = Group(name=GROUP, version="v1", module="acme/digits:1", count=1, weight=100, memory_mb=64)
    image = docker_parts.python_slim(engine)
    body = specs.replica(NAMES, group, 0, image=image, cpu_cores=0.5, providers=(), volumes=())
    return confined(engine, body, NAMES.replica(GROUP, 0))


def host_config(container):
    container.reload()
    return container.attrs["HostConfig"]


@pytest.mark.parametrize(
    "options",
    [
        ["--memory=32m", "--memory-swap=32m"],
        ["--memory=512m", "--memory-swap=1g"],
        ["--memory-reservation=20m"],
        ["--cpus=0.1"],
        ["--cpu-shares=2"],
        ["--cpuset-cpus=0"],
        ["--pids-limit=9"],
        ["--restart=no"],
    ],
    ids=lambda options: options[0].partition("=")[0].strip("-"),
)
def test_a_limit_that_somebody_changed_is_put_back(engine, limited, options):
    """By `docker update`, while it runs on; what was without a limit is without one that matters."""
    before = host_config(limited)
    assert not seen(engine).replicas[0].changed
    subprocess.run(["docker", "update", *options, limited.id], check=True, capture_output=True)
    (one,) = seen(engine).replicas
    assert (one.running, one.changed) == (True, True)
    limits.put_back(engine.api, one.name)
    assert not seen(engine).replicas[0].changed
    after = host_config(limited)
    for name in ("Memory", "MemorySwap", "NanoCpus", "PidsLimit", "RestartPolicy"):
        assert after[name] == before[name], name
    assert after["CpuShares"] in {0, 1024}
    assert after["CpusetCpus"] in {"", f"0-{os.cpu_count() - 1}"}
    assert after["MemoryReservation"] in {0, after["Memory"]}
    assert seen(engine).replicas[0].name == one.name


def test_what_was_unlimited_is_so_again(engine, network):
    """A gateway has all cores: its share is put back to them, and then nothing is left to do."""
    body = specs.gateway(NAMES, image=docker_parts.python_slim(engine), made="12345678", tls=False)
    gateway = confined(engine, body, NAMES.gateway("12345678"))
    for option in ("--cpus=0.1", "--memory=128m"):
        subprocess.run(["docker", "update", option, gateway.id], check=True, capture_output=True)
        assert seen(engine).gateways[0].changed
        limits.put_back(engine.api, gateway.id)
        assert not seen(engine).gateways[0].changed
    assert host_config(gateway)["NanoCpus"] >= os.cpu_count() * 10**9


def test_a_replica_that_somebody_renamed_is_the_same_replica(engine, host, limited):
    """It serves on, nothing is made beside it, and the endpoint's removal takes it away with all the rest."""
    limited.rename("somebodys")
    assert [one.name for one in seen(engine).replicas] == [limited.id[:12]]
    assert host.present() == {Found("endpoint", Slug("digits"))}
    assert host.remove(Slug("digits"))
    with pytest.raises(docker.errors.NotFound):
        limited.reload()
    assert host.present() == frozenset()


def test_a_gateway_that_somebody_renamed_goes_when_it_has_ended(engine, network):
    """Another one is made once, and not at each look."""
    image = docker_parts.gateway_image(engine)
    front = fronts.made(WANTED, image=engine.images.get(image).id, bind="127.0.0.1")
    body = specs.gateway(NAMES, image=image, made=front.gateway, tls=False)

    def lacking():
        return [type(step) for step in plan.lacking([], front, seen(engine))]

    old = confined(engine, body, NAMES.gateway(front.gateway))
    old.rename("somebodys")
    old.stop(timeout=0)
    assert plan.MakeGateway in lacking()
    fronts.make_gateway(engine.api, NAMES, front, WANTED, seen(engine), image=image)
    (new,) = seen(engine).gateways
    assert new.name != old.id[:12]
    assert plan.MakeGateway not in lacking()


def test_who_looks_around_in_the_network_keeps_no_removal_up(engine, host, network):
    """Somebody's container that was brought into it runs on, without it."""
    image = docker_parts.python_slim(engine)
    theirs = engine.containers.run(image, SLEEPS, name="theirs", detach=True, stop_signal="SIGKILL")
    try:
        network.connect(theirs)
        assert host.remove(Slug("digits"))
        theirs.reload()
        assert (theirs.status, NAMES.whole in theirs.attrs["NetworkSettings"]["Networks"]) == ("running", False)
    finally:
        theirs.remove(force=True)


def test_a_paused_replica_is_removed_as_any(engine, host, limited):
    """Nobody has to have it go on first."""
    limited.pause()
    assert host.remove(Slug("digits"))
    assert host.present() == frozenset()


def test_a_program_beside_a_gateway_that_is_paused_is_not_waited_for(engine, replica):
    """It would answer once somebody has the container go on: that may be whoever waits for it here."""
    timer = threading.Timer(1.0, replica.pause)
    timer.start()
    began = time.monotonic()
    out, wrong = run(engine.api, replica.id, ["sleep", "60"])
    assert (out, "was paused" in wrong) == (b"", True)
    assert time.monotonic() - began < stretched(15)


@pytest.mark.parametrize("how", ["paused", "renamed", "limited"])
def test_a_job_that_somebody_had_a_hand_in_goes_on(engine, how):
    """Paused, it would be at work for ever; renamed, it would be begun a second time over the same answers."""
    engine.volumes.create(JOB.content, labels=labels("content", of=JOB))
    image = docker_parts.python_slim(engine)
    mounts = [{"Type": "volume", "Source": JOB.content, "Target": "/edgefleet"}]
    body = {
        "Image": image, "Labels": labels("job", of=JOB) | {f"{LABEL}made": "0f" * 8},
        "HostConfig": {"Mounts": mounts, "Memory": 64 << 20, "MemorySwap": 64 << 20},
    }  # fmt: skip
    made = confined(engine, body, JOB.job)
    if how == "paused":
        made.pause()
    elif how == "renamed":
        made.rename("somebodys")
    else:
        subprocess.run(["docker", "update", "--memory=32m", made.id], check=True, capture_output=True)
    job = Job(
        name=Slug("digits"), mark="0f" * 8, module=None, inputs="in", outputs="out", settings=BatchSettings(), starts=1
    )
    standing = Jobs(engine.api, FLEET, None, (), str).bring(job, None, str)
    made.reload()
    assert (standing.state, made.status) == ("running", "running")
    assert made.attrs["HostConfig"]["Memory"] == 64 << 20
    Jobs(engine.api, FLEET, None, (), str).end(Slug("digits"))
    with pytest.raises(docker.errors.NotFound):
        made.reload()


@pytest.mark.parametrize(
    ("code", "starts", "why"),
    [(4, 1, "no such input"), (9, STARTS, f"it ended with exit code 9, {STARTS} times: no such input")],
    ids=["its own word", "too often"],
)
def test_a_job_that_will_not_get_done_is_started_no_more(engine, code, starts, why):
    """By its own word for the end, or after so many ends; in the words with which it ended."""
    engine.volumes.create(JOB.content, labels=labels("content", of=JOB))
    body = {
        "Image": docker_parts.python_slim(engine), "Labels": labels("job", of=JOB) | {f"{LABEL}made": "0f" * 8},
        "HostConfig": {"Mounts": [{"Type": "volume", "Source": JOB.content, "Target": "/edgefleet"}]},
    }  # fmt: skip
    made = confined(engine, body, JOB.job, Cmd=["sh", "-c", f"echo no such input >&2; exit {code}"])
    made.wait()
    jobs = Jobs(engine.api, FLEET, None, (), str)
    job = Job(
        name=Slug("digits"), mark="0f" * 8, module=None, inputs="in", outputs="out", settings=BatchSettings(),
        starts=starts,
    )  # fmt: skip
    stands = jobs.bring(job, None, str)
    assert (stands.state, stands.why) == ("failed", why)
    # Another run of this name has nothing of it, and only places that the target was attached with.
    with pytest.raises(Invalid, match="lets no batch job use it"):
        jobs.bring(msgspec.structs.replace(job, mark="1e" * 8), None, str)
    with pytest.raises(docker.errors.NotFound):
        made.reload()


def test_secrets_are_there_as_long_as_somebody_keeps_them(engine, host, network):
    """It is said where there were none before, and with their group they go whole."""
    image = docker_parts.python_slim(engine)
    assert secrets.keep(engine.api, NAMES.secrets(GROUP), {"token": b"abc"}, image=image)
    assert seen(engine).kept == {GROUP}
    engine.containers.get(NAMES.secrets(GROUP).name).kill()
    assert seen(engine).kept == frozenset()
    host._empty(NAMES, GROUP)
    assert (seen(engine).begun, engine.volumes.list(filters={"label": f"{LABEL}fleet={FLEET}"})) == (frozenset(), [])


def test_another_engine_than_was_attached_is_not_worked_on(engine, limited):
    """Its address leads elsewhere by now: nothing there is looked for, and nothing removed."""
    host = ContainerHost(Attached(docker=f"unix://{engine_socket()}", engine="another"), fleet=FLEET, blobs=None)
    try:
        for asked in (host.present, lambda: host.remove(Slug("digits"))):
            with pytest.raises(TargetTrouble, match="another engine answers there"):
                asked()
    finally:
        host.close()
    limited.reload()
    assert limited.status == "running"


def test_two_servers_of_one_mark_do_not_undo_each_other(engine, host, limited):
    """A copy that begins is the one that works there; the other says so, and touches nothing, until it begins anew."""
    mark = {"label": [f"{LABEL}fleet={FLEET}", f"{LABEL}server"]}
    mine, theirs = Holder(), Holder()
    at = Attached(docker=f"unix://{engine_socket()}")
    hosts = [ContainerHost(at, fleet=FLEET, blobs=None, holder=one) for one in (mine, mine, theirs)]
    try:
        first, again, copy = hosts
        # Another target's name for the same engine is no other server; and who only looks leaves no mark.
        assert first.present() == {Found("endpoint", Slug("digits"))}
        assert engine.volumes.list(filters=mark) == []
        for one in (first, again, first):
            one._info()
        copy._info()
        assert len(engine.volumes.list(filters=mark)) == 1
        for asked in (first.present, lambda: first.remove(Slug("digits"))):
            with pytest.raises(TargetTrouble, match="another fleet server with this fleet's mark"):
                asked()
        limited.reload()
        assert limited.status == "running"
        mine.begin()
        assert first.remove(Slug("digits"))
        assert engine.volumes.list(filters=mark) == []
    finally:
        for one in hosts:
            one.close()
