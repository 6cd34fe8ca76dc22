"""Keys that never leave an HSM: root, targets and a team sign with PKCS#11, tried with SoftHSM."""

import sys

import pytest

from tests.parts import softhsm
from tests.parts.key_site import KeySite

pytestmark = [pytest.mark.long, pytest.mark.needs("mosquitto", "softhsm"), pytest.mark.timeout(600)]


@pytest.fixture
def site(tmp_path):
    made = KeySite(tmp_path)
    made.terminal.environment |= softhsm.token(tmp_path / "hsm", sys.executable, 1, 2, 3, 4, 5)
    yield made
    made.close()


async def test_root_targets_and_team_move_into_an_hsm(site):
    """Every offline role gets P-256 keys of a token, signs with them, and devices accept what they sign."""
    site.found()
    release = site.publish("acme/team-acme.pem", b"one", b"two")
    device, late = site.device(), site.device("late")
    await late.accept(release[0], signer=site.director())
    root = [f"'{softhsm.uri(number)}'" for number in (1, 2, 3)]
    targets, team = (f"'{softhsm.uri(number)}'" for number in (4, 5))
    new = " ".join(f"--new-key {one}" for one in root)
    for command in (
        f"keys rotate root {new} --key file2:{site.desk}/anna/root-1.pem --key ben/root-2.pem",
        f"keys rotate targets --new-key {targets} --key {root[0]} --key {root[1]}",
        f"keys rotate team-acme --new-key {team} --key {targets}",
        f"keys renew root targets team-acme --key {root[1]} --key {root[2]} --key {targets} --key {team}",
        f"modules floor acme/digits 2 --key {team}",
    ):
        site.terminal.paste(f"edgefleet {command}")

    stands = site.status()
    assert (stands["root"]["version"], stands["targets"]["version"]) == (4, 4)
    for one in (device, late):
        await one.accept(release[1], signer=site.director(), counter=2)


def test_a_wrong_pin_or_key_is_told_in_words(site):
    """What the HSM refuses is one message with what to do, and no traceback."""
    site.found()
    draft = "edgefleet keys renew targets --draft draft && edgefleet keys sign draft --key"
    site.terminal.environment["EDGEFLEET_PIN"] = "0000"
    for place in (softhsm.uri(1), softhsm.uri(9), "hsm:1?label=nothing", "hsm:one", "awskms:alias/root"):
        said = site.terminal.paste(f"{draft} '{place}'", fails=True)
        assert "Error:" in said
        assert "what to do:" in said
        assert "Traceback" not in said
    site.terminal.environment["EDGEFLEET_PIN"] = softhsm.PIN
    assert "may sign none of it" in site.terminal.paste(f"{draft} '{softhsm.uri(1)}'", fails=True)
