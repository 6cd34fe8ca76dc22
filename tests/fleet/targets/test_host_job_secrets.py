"""Secrets of a batch job on a real engine: in the host's memory, there again whenever it goes on, gone with it."""

import json

import pytest

from fleet.targets.container import limits, specs
from fleet.targets.container.jobs import Jobs
from fleet.targets.container.specs import LABEL, JobNames
from fleet.targets.contract import Job
from fleet.targets.settings import BatchSettings
from modules.names import Slug
from tests.parts import docker as docker_parts

pytestmark = pytest.mark.needs("docker")

FLEET = "beadbeadbead"
NAMES = JobNames(FLEET, Slug("night"))
VALUE = "planted-value-of-a-job"
JOB = Job(
    name=Slug("night"), mark="0f" * 8, module=None, inputs=f"{NAMES.job}.in", outputs=f"{NAMES.job}.out",
    settings=BatchSettings(), starts=1, secrets={"token": VALUE.encode()},
)  # fmt: skip
READ = ["python", "-c", "print(open('/run/secrets/..data/token').read(), end='')"]


@pytest.fixture
def engine():
    client = docker_parts.client()
    yield client
    for one in ours(client)[0]:
        one.remove(force=True)
    for one in ours(client)[1]:
        one.remove()
    client.close()


@pytest.fixture
def night(engine):
    """A job's container as it is made, with a program that waits in the place of the module's."""
    image = docker_parts.python_slim(engine)
    for place in (JOB.inputs, JOB.outputs):
        engine.volumes.create(place, labels=NAMES.labels)
    engine.api.create_container_from_config(specs.job_filler(NAMES, image=image), name=NAMES.filling)
    body = specs.job(NAMES, JOB, image=image, memory_mb=64, providers=(), volumes=("/run/secrets",))
    waits = {"Entrypoint": ["sleep", "600"], "Cmd": [], "StopSignal": "SIGKILL"}
    engine.api.create_container_from_config(limits.labelled(body | waits), name=NAMES.job)
    return engine.containers.get(NAMES.job)


def ours(engine):
    mark = {"label": f"{LABEL}fleet={FLEET}"}
    return engine.containers.list(all=True, filters=mark, ignore_removed=True), engine.volumes.list(filters=mark)


def read(night):
    night.reload()
    return night.exec_run(READ).output.decode()


def test_they_are_there_whenever_it_goes_on_and_nowhere_else(engine, night):
    """Killed alone, with what keeps them, and begun by hand without them: it reads them again before it goes on."""
    jobs = Jobs(engine.api, FLEET, None, (), lambda: docker_parts.python_slim(engine))
    assert jobs.bring(JOB, None, str).state == "starting"
    assert read(night) == VALUE
    mounts = night.exec_run(["cat", "/proc/mounts"]).output.decode()
    (line,) = (one.split() for one in mounts.splitlines() if " /run/secrets " in one)
    assert (line[2], line[3].split(",")[0]) == ("tmpfs", "ro")

    night.kill()
    assert "goes on where it was" in jobs.bring(JOB, None, str).why
    assert read(night) == VALUE

    keeper = engine.containers.get(NAMES.secrets.name)
    began = night.attrs["State"]["StartedAt"]
    keeper.kill()
    assert jobs.bring(JOB, None, str).state == "running"
    assert (read(night), night.attrs["State"]["StartedAt"]) == (VALUE, began)

    # As after a restart of the host, where somebody was quicker than the server.
    engine.containers.get(NAMES.secrets.name).kill()
    night.kill()
    night.start()
    assert "No such file" in read(night)
    began = night.attrs["State"]["StartedAt"]
    jobs.bring(JOB, None, str)
    jobs.bring(JOB, None, str)
    # What it read at its start is not there: it starts once more.
    assert (read(night), night.attrs["State"]["StartedAt"] > began) == (VALUE, True)

    containers, volumes = ours(engine)
    seen = json.dumps([one.attrs for one in (*containers, *volumes)])
    seen += "".join(one.logs().decode() for one in containers)
    seen += night.exec_run(["python", "-c", "print(open('/proc/1/environ').read())"]).output.decode()
    assert VALUE not in seen
    jobs.end(JOB.name)
    assert ours(engine) == ([], [])
