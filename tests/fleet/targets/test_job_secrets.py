"""Secrets of a batch job's module over the API: given with the job, never shown, forgotten once it is over."""

import base64

import msgspec
import pytest
from sqlalchemy import select, update

from fleet.mishaps import Mishaps
from fleet.target_tables import jobs
from fleet.targets.contract import JobStanding
from fleet.targets.job_duty import BringingJobs
from fleet.targets.jobs import Asked, BatchJobs
from modules.errors import NeedsOperator
from modules.manifest import SecretFile
from modules.sealing import LONGEST
from tests.fleet.targets.test_jobs import PATH, places, started

VALUE = b"planted-value-of-a-secret"
DECLARED = (SecretFile(name="token"), SecretFile(name="key"), SecretFile(name="feed", required=False))


@pytest.fixture
def reader(cloud):
    """A target with places, and a module that requires ``token`` and ``key``, and may have ``feed``."""
    places(cloud)
    cloud.refs[0] = str(cloud.fleet.add_module("reader", secrets=DECLARED))
    return cloud


def given(**values):
    return {name: base64.b64encode(value).decode() for name, value in values.items()}


def row(cloud):
    with cloud.database.read() as connection:
        return BatchJobs.row(connection, "night")


def wished(cloud):
    return cloud.http._transport.app.state.services.jobs


def has_secrets(cloud):
    return bool(msgspec.json.decode(row(cloud).asked, type=Asked).secrets)


async def test_without_a_required_one_nothing_begins(reader):
    """Each that is missing is named, with what to type; an optional one may be."""
    refused = await started(reader, code=422)
    assert refused["detail"] == "the module requires a secret that the job is not given: token, key"
    assert refused["remedy"] == "run: edgefleet batch start night ... --secret token=FILE --secret key=FILE"
    refused = await started(reader, code=422, secrets=given(key=b"k", feed=b"f"))
    assert refused["detail"].endswith("not given: token")
    assert (await reader.ask("GET", PATH)).json() == []
    assert (await started(reader, secrets=given(key=b"k", token=VALUE)))["state"] == "starting"


async def test_what_is_no_secret_of_its_is_refused(reader):
    """One that the module does not declare, an empty or too long one, and what is no base64; nothing of it is said."""
    whole = given(token=VALUE, key=b"k")
    wrong = (given(other=VALUE), given(token=b""), given(token=b"x" * (LONGEST + 1)), {"token": "planted-!"})
    for more in (*wrong, {"token": ["planted-"]}, {f"s{n}": "eA==" for n in range(17)}):
        refused = await started(reader, code=422, secrets=whole | more)
        assert "planted" not in str(refused)
    assert (await reader.ask("GET", PATH)).json() == []


async def test_a_job_on_a_device_has_those_of_its_slot(reader):
    """It is given none."""
    reader.fleet.add_device("cam-1")
    refused = await started(reader, code=422, target=None, device="cam-1", secrets=given(token=VALUE, key=b"k"))
    assert "the secrets of the slot" in refused["detail"]


async def test_nobody_reads_a_value_again(reader):
    """Only what brings the job about does: it is in no answer, event, audit row or table, however it is written."""
    said = str(await started(reader, secrets=given(token=VALUE, key=b"k")))
    said += "".join([(await reader.ask("GET", path)).text for path in (PATH, f"{PATH}/night")])
    said += "".join([(await reader.ask("GET", f"/api/v1/{path}")).text for path in ("events", "audit")])
    with reader.database.read() as connection:
        for table in ("batch_jobs", "events", "audit"):
            said += str(connection.exec_driver_sql(f"SELECT * FROM {table}").all())
    for spelling in (VALUE.decode(), base64.b64encode(VALUE).decode(), VALUE.hex()):
        assert spelling not in said
    assert VALUE not in msgspec.json.decode(row(reader).asked, type=Asked).secrets
    assert wished(reader).wanted(row(reader)).secrets == {"token": VALUE, "key": b"k"}


async def test_what_is_sealed_for_a_job_opens_for_no_other(reader):
    """Not even for the next one of its name."""
    await started(reader, secrets=given(token=VALUE, key=b"k"))
    with reader.database.write() as connection:
        connection.execute(update(jobs).values(mark="f" * 16))
    with pytest.raises(NeedsOperator, match="another authority's key"):
        wished(reader).wanted(row(reader))


@pytest.mark.parametrize("how", ["cancelled", "done", "failed"])
async def test_they_are_forgotten_once_it_is_over(reader, how):
    """However it ends; as long as it goes on, each look, a new server's too, gives its target the same ones."""
    await started(reader, secrets=given(token=VALUE, key=b"k"))
    use = reader.http._transport.app.state.services
    duty = BringingJobs(
        database=reader.database, clock=use.clock, wished=use.jobs, targets=use.targets, mishaps=Mishaps(use.clock)
    )
    seen = []

    class Host:
        def bring_job(self, job):
            seen.append(dict(job.secrets))
            return JobStanding(state="running" if len(seen) < 3 else how)

        job_logs = end_job = bring_job

    for _ in range(2):
        duty._note(row(reader), duty._brought(row(reader), Host(), ""))
    assert seen == [{"token": VALUE, "key": b"k"}] * 2
    assert has_secrets(reader)
    if how == "cancelled":
        await reader.ask("POST", f"{PATH}/night/cancel")
    else:
        duty._note(row(reader), duty._brought(row(reader), Host(), ""))
    assert (row(reader).state, has_secrets(reader)) == (how, False)
    with reader.database.read() as connection:
        (asked,) = connection.scalars(select(jobs.c.asked))
    assert msgspec.json.decode(asked, type=Asked).inputs == "in"
