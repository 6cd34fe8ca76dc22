"""What no row speaks of goes from a real container host, after a while; nothing else there is touched."""

import secrets

import pytest
from sqlalchemy import insert, select, update

from fleet.mishaps import Mishaps
from fleet.target_tables import endpoints, targets
from fleet.targets import sweeping
from fleet.targets.attached import Line
from fleet.targets.container.host import Attached, ContainerHost
from fleet.targets.contract import Found
from fleet.targets.present import named_by
from tests.fleet.targets.test_endpoints import create
from tests.parts import docker as docker_parts
from tests.parts.presence import engine_socket

FLEET, OTHER = secrets.token_hex(6), secrets.token_hex(6)


class One:
    """The only target that there is, under whatever name."""

    def __init__(self, target):
        self._line = Line("", target)

    def of(self, connection, name):
        return self._line

    def close(self):
        self._line.close()


@pytest.fixture
def engine():
    with docker_parts.engine():
        client = docker_parts.client()
        yield client
        for fleet in (FLEET, OTHER):
            mark = {"label": f"edgefleet.cloud.fleet={fleet}"}
            for one in client.containers.list(all=True, filters=mark, ignore_removed=True):
                one.remove(force=True)
            for one in (*client.volumes.list(filters=mark), *client.networks.list(filters=mark)):
                one.remove()
        client.close()


def put(engine, fleet, kind, name, part="replica"):
    """A container, a volume and a network, labelled and named as an endpoint's or a job's are."""
    labels = {"edgefleet.cloud.fleet": fleet, f"edgefleet.cloud.{kind}": name, "edgefleet.cloud.part": part}
    image = docker_parts.python_slim(engine)
    whole = f"edgefleet.{fleet}.{name}" + (".job" if kind == "job" else "")
    engine.containers.create(image, ["sleep", "1"], labels=labels, name=f"{whole}.content")
    engine.volumes.create(f"{whole}.content", labels=labels)
    if kind == "endpoint":
        engine.networks.create(whole, labels=labels)


def there(engine, fleet):
    mark = {"label": f"edgefleet.cloud.fleet={fleet}"}
    lists = (engine.volumes.list(filters=mark), engine.networks.list(filters=mark))
    return [len(engine.containers.list(all=True, filters=mark)), *map(len, lists)]


@pytest.fixture
async def sweep(cloud, engine):
    """Looks once, at a moment; the target is the machine's own engine."""
    attached = Attached(docker=f"unix://{engine_socket()}")
    one = One(ContainerHost(attached, fleet=FLEET, blobs=None))
    with cloud.database.write() as connection:
        connection.execute(update(targets).values(attached=f'{{"docker": "{attached.docker}"}}'))
    now = [1000.0]
    duty = sweeping.Sweeping(
        database=cloud.database, clock=lambda: now[0], attached=one, mishaps=Mishaps(lambda: now[0])
    )

    async def lasting(work, *arguments):
        return work(*arguments)

    async def look(at):
        now[0] = at
        await duty._turn("lab", lasting)

    yield look
    one.close()


@pytest.mark.needs("docker")
async def test_what_no_row_speaks_of_goes_after_a_while(cloud, engine, sweep):
    """It is said at the first look, gone an hour later, and said again; another fleet's and an unmarked one stay."""
    put(engine, FLEET, "endpoint", "lost")
    put(engine, FLEET, "job", "night", part="job")
    put(engine, OTHER, "endpoint", "lost")
    # A clock that was ahead, and was put right, makes nobody wait for that day.
    await sweep(1_000_000.0)
    await sweep(1000.0)
    assert len(cloud.events("target-stray")) == 2
    await sweep(1000.0 + sweeping.GRACE_S - 1)
    assert there(engine, FLEET) == [2, 2, 1]
    await sweep(1000.0 + sweeping.GRACE_S)
    assert there(engine, FLEET) == [0, 0, 0]
    assert there(engine, OTHER) == [1, 1, 1]
    assert len(cloud.events("target-stray")) == 2
    assert sorted("night" in str(one) for one in cloud.events("target-swept")) == [False, True]


@pytest.mark.needs("docker")
async def test_what_a_row_speaks_of_stays(cloud, engine, sweep):
    """An endpoint of this target, or of the same engine under another name, is let alone, once its row is back."""
    put(engine, FLEET, "endpoint", "kept")
    put(engine, FLEET, "endpoint", "elsewhere")
    await sweep(1000.0)
    await create(cloud, name="kept")
    with cloud.database.write() as connection:
        row = connection.execute(select(targets)).one()
        same = row.attached.replace("}", ', "engine": "E"}')
        connection.execute(update(targets).values(attached=same))
        connection.execute(insert(targets).values(name="again", kind="container", attached=same, created=0.0))
        one = connection.execute(select(endpoints)).one()._asdict()
        connection.execute(insert(endpoints).values(one | {"name": "elsewhere", "target": "again"}))
    await sweep(1000.0 + 2 * sweeping.GRACE_S)
    assert there(engine, FLEET) == [2, 2, 2]
    with cloud.database.read() as connection:
        assert connection.scalar(select(targets.c.strays).where(targets.c.name == "lab")) == "{}"


def test_names_that_none_can_have_are_not_ours():
    """Anybody on a host can write a label; one that is no name leads nowhere."""
    labels = [{"edgefleet.cloud.endpoint": name} for name in ("../x", "", "A", "a,b", "ok")]
    assert named_by([*labels, {"edgefleet.cloud.job": "night"}, {}]) == {Found("endpoint", "ok"), Found("job", "night")}
