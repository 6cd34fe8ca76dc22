"""What a team may have on a target: refused beyond it when deployed, changed, scaled and run, and said in figures."""

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from fleet.client import arguments
from fleet.client.cli import app
from fleet.people.roles import Grant
from fleet.target_tables import jobs
from fleet.targets import quotas
from fleet.targets.quotas import Used
from fleet.targets.settings import BatchSettings
from modules.errors import Invalid
from tests.fleet.targets.test_endpoints import PATH, create, token, wish
from tests.fleet.targets.test_jobs import places, start

QUOTA = "/api/v1/targets/lab/quota"


async def bound(cloud, **quota):
    answer = await cloud.ask("PUT", QUOTA, json=quota)
    assert answer.status_code == 200, answer.text


async def test_what_would_be_more_is_refused_with_the_figures(cloud, refused):
    """A second endpoint is counted with the first; the sentence says what is used, asked for and allowed."""
    await bound(cloud, cpu=2, memory_mb=1024, replicas=3)
    await create(cloud, settings={"memory_mb": 300})
    two = {"v1": {"module": cloud.refs[0], "replicas": 2}}
    answer = await cloud.ask("POST", PATH, json=wish(cloud, name="second", versions=two, settings={"memory_mb": 400}))
    words = refused(answer, 409, "conflict")["detail"]
    assert "1 CPUs used besides, 2 asked for, 2 allowed" in words
    assert "300 MiB of memory used besides, 800 asked for, 1024 allowed" in words
    assert "replicas" not in words
    assert [one["name"] for one in (await cloud.ask("GET", PATH)).json()] == ["digits"]


@pytest.mark.parametrize(
    "change",
    [
        {"versions": {"v1": {"module": "0", "replicas": 3}}},
        {"versions": {"v1": {"module": "0"}, "v2": {"module": "1"}, "v3": {"module": "1"}}},
        {"settings": {"cpu_cores": 2.5}},
        {"settings": {"memory_mb": 3000}},
    ],
    ids=["scaled", "another version", "more of a CPU", "more memory"],
)
async def test_no_change_goes_beyond_it(cloud, refused, change):
    """Scaling, versions and limits of what is there are held against the same bound."""
    await bound(cloud, cpu=2, memory_mb=2048, replicas=2)
    await create(cloud)
    for one in change.get("versions", {}).values():
        one["module"] = cloud.refs[int(one["module"])] if one["module"] in "01" else one["module"]
    refused(await cloud.ask("PATCH", f"{PATH}/digits", json=change), 409, "conflict")


async def test_what_is_there_stays_and_may_become_less(cloud):
    """A bound below what is used takes nothing away, and hinders no change that asks for less or as much."""
    three = {"v1": {"module": cloud.refs[0], "replicas": 3}}
    await create(cloud, versions=three)
    await bound(cloud, replicas=1)
    for change in ({"settings": {"description": "it"}}, {"versions": {"v1": {"module": cloud.refs[0], "replicas": 2}}}):
        answer = await cloud.ask("PATCH", f"{PATH}/digits", json=change)
        assert answer.status_code == 200, answer.text


async def test_an_endpoint_is_counted_once_when_it_grows(cloud):
    """What it has now is no part of what is used besides."""
    await bound(cloud, replicas=3)
    await create(cloud)
    three = {"versions": {"v1": {"module": cloud.refs[0], "replicas": 3}}}
    answer = await cloud.ask("PATCH", f"{PATH}/digits", json=three)
    assert answer.status_code == 200, answer.text


async def test_batch_jobs_count_too(cloud):
    """A job beyond what its team has left is refused, and one that runs leaves less for endpoints, until it ended."""
    await bound(cloud, replicas=2)
    await create(cloud)
    await start(cloud)
    assert (await start(cloud, code=409, name="second"))["code"] == "conflict"
    places(cloud)
    answer = await cloud.ask("POST", PATH, json=wish(cloud, name="second"))
    assert "2 replicas used besides, 1 asked for, 2 allowed" in answer.json()["detail"]
    with cloud.database.write() as connection:
        connection.execute(update(jobs).values(on_target=0))
    await start(cloud, name="second")


async def test_only_who_administers_targets_bounds_them(cloud):
    """An operator may not, and sees what the bound is."""
    operator = token(cloud, Grant("operator"))
    assert (await cloud.ask("PUT", QUOTA, operator, json={"replicas": 100})).status_code == 403
    await bound(cloud, replicas=1)
    (seen,) = (await cloud.ask("GET", "/api/v1/targets", operator)).json()
    assert seen["quota"] == {"cpu": 0.0, "memory_mb": 0, "replicas": 1}


@pytest.mark.parametrize(("text", "size"), [("4Gi", 4096), ("512Mi", 512), ("1.5G", 1536), ("64", 64), ("0", 0)])
def test_sizes_are_read(text, size):
    """As Kubernetes writes them, or in MiB."""
    assert arguments.mebibytes(text, option="--team-memory") == size


@pytest.mark.parametrize("text", ["", "Gi", "-1", "nan", "4Ti", "4 Gi", "1e9", "4GiGi", "inf"])
def test_what_is_no_size_is_refused(text):
    """With how it is written."""
    with pytest.raises(Invalid, match="write 4Gi"):
        arguments.mebibytes(text, option="--team-memory")


def test_the_command_takes_no_negative_bound():
    """Before anything is asked of a server."""
    done = CliRunner().invoke(app, ["targets", "set", "lab", "--team-replicas", "-1"])
    assert done.exit_code == 2


def test_each_pod_of_a_batch_job_counts():
    """As a replica, with its own cores and memory."""
    wide = BatchSettings(pods=3, workers=2, cpu_cores=2.0, memory_mb=100)
    assert quotas.of_job(None, wide, "sha256:" + "0" * 64) == Used(6.0, 300, 3)
