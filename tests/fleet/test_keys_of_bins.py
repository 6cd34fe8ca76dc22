"""A team whose releases stand in bins gets another key: its bins change hands with its role, in one step."""

import base64
from datetime import UTC, datetime

import pytest
from tuf.api.metadata import Metadata

from modules import manifest as manifests
from modules.errors import Untrusted
from modules.trust import drafts, roles, team_files
from tests.doubles.publisher import Publisher, checked
from tests.parts.key_site import TEAM, KeySite, signed_by

# Each command is a process of its own, as an operator calls it: dozens of them, a second each on a busy machine.
pytestmark = [pytest.mark.long, pytest.mark.needs("mosquitto"), pytest.mark.timeout(600)]

OWN = ("team-acme", *roles.bins(TEAM))


@pytest.fixture
def site(tmp_path):
    made = KeySite(tmp_path)
    yield made
    made.close()


def files(site):
    """All that the server has of the team."""
    if Metadata.from_bytes(site.file("team-acme")).signed.delegations is None:
        return {"team-acme": site.file("team-acme")}
    return {name: site.file(name) for name in OWN}


def publish(site, key, data):
    """One more version of acme/digits; the second moves all into bins."""
    made = Publisher(site.http(), team=TEAM).upload("digits", {"model.onnx": data})
    signed = team_files.release(
        files(site),
        team=TEAM,
        path=made.ref.target,
        data=manifests.encode(made),
        targets=site.file("targets"),
        signers=[site.signer(key)],
        now=datetime.now(UTC),
        most=1,
    )
    checked(send(site, signed))
    return made


def send(site, signed):
    document = {"files": {name: base64.b64encode(data).decode() for name, data in signed.items()}}
    return site.http().post("/api/v1/tuf/teams/acme/files", json=document)


async def test_a_team_with_bins_gets_another_key(site):
    """A holder signs the travelling draft, bins and all; devices take its releases before and after, and none of the
    stolen key's, in its role or in a bin."""
    site.found()
    releases = [publish(site, "acme/team-acme.pem", data) for data in (b"one", b"two", b"three")]
    assert len(files(site)) == 257
    device, late = site.device(), site.device("late")
    for one in (device, late):
        await one.accept(releases[0], signer=site.director())
    thief, before = site.signer("acme/team-acme.pem"), files(site)

    paste = site.terminal.paste
    paste("edgefleet keys make acme/team-acme-2.pem")
    said = paste("edgefleet keys rotate team-acme --new-key acme/team-acme-2.pub --draft travels")
    assert "and its 256 bins" in said
    assert len(said.splitlines()) < 20
    said = paste("edgefleet keys sign travels --key owner/targets.pem")
    assert "Missing for team-acme: 0 of 1 of team-acme's keys signed" in said
    assert "too few keys have signed" in paste("edgefleet keys submit travels", fails=True)
    paste("edgefleet keys sign travels --key acme/team-acme-2.pem")
    one_bin = next((site.desk / "travels").glob("*.bins-acme-07.json"))
    signed = one_bin.read_bytes()
    one_bin.write_bytes(signed_by(before["bins-acme-07"], thief))
    assert "0 of 1 of bins-acme-07's keys signed" in paste("edgefleet keys submit travels", fails=True)
    one_bin.write_bytes(signed)
    paste("edgefleet keys submit travels")
    assert site.status()["team-acme"]["keys"] == [site.keyid("acme/team-acme-2.pem")]

    for counter, release in enumerate(releases, 2):
        await device.accept(release, signer=site.director(), counter=counter)
    await late.accept(releases[2], signer=site.director(), counter=2)
    fourth = publish(site, "acme/team-acme-2.pem", b"four")
    await device.accept(fourth, signer=site.director(), counter=9)

    place = roles.bin_of(TEAM, fourth.ref.target)
    for name in ("team-acme", place):
        forged = signed_by(site.file(name), thief)
        assert "0 of 1 signatures hold" in send(site, {name: forged}).text
        present = Metadata.from_bytes(site.file(name)).signed.version
        fresh = site.device(f"knows-no-{name}")
        fresh.tampered[f"{present}.{name}.json"] = forged
        with pytest.raises(Untrusted):
            await fresh.accept(fourth, signer=site.director())
        fresh.tampered.clear()
        await fresh.accept(fourth, signer=site.director())


async def test_a_key_that_may_sign_bins_is_not_withdrawn_alone(site):
    """The owner cannot leave a team behind whose role still names that key: every device would refuse the team."""
    site.found()
    first, _ = [publish(site, "acme/team-acme.pem", data) for data in (b"one", b"two")]
    paste = site.terminal.paste
    paste("edgefleet keys make acme/more.pem")
    keys = "--key owner/targets.pem --key acme/team-acme.pem"
    assert "256 bins" in paste(f"edgefleet keys rotate team-acme --add --new-key acme/more.pub {keys}")

    left = [site.signer("acme/team-acme.pem").public_key]
    made = drafts.next_targets(site.file("targets"), now=datetime.now(UTC), teams={TEAM: left})
    alone = drafts.add_signatures(made.targets, role="targets", signers=[site.signer("owner/targets.pem")])
    assert "other keys may sign its bins" in site.send(targets=alone).text

    paste(f"edgefleet keys revoke team-acme {site.keyid('acme/more.pem')} {keys}")
    await site.device().accept(first, signer=site.director())


async def test_a_team_with_bins_is_renewed_and_its_floor_raised(site):
    """By the role alone; after a restored backup the bins go above what devices saw, too."""
    site.found()
    first, second = [publish(site, "acme/team-acme.pem", data) for data in (b"one", b"two")]
    assert len(files(site)) == 257
    device = site.device()
    await device.accept(first, signer=site.director())
    paste = site.terminal.paste
    said = paste("edgefleet keys renew team-acme --key acme/team-acme.pem")
    assert "bins" not in said
    paste("edgefleet modules floor acme/digits 2 --key acme/team-acme.pem")
    with pytest.raises(Untrusted, match="floor"):
        await device.accept(first, signer=site.director(), counter=2)
    await device.accept(second, signer=site.director(), counter=2)

    paste("edgefleet keys renew team-acme --above 1000 --key acme/team-acme.pem")
    assert {Metadata.from_bytes(data).signed.version for data in files(site).values()} == {1001}
    await device.accept(second, signer=site.director(), counter=3)
