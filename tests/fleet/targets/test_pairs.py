"""An operator's certificate that is out of its time: clients refuse it, so the endpoint says so."""

import time

import pytest

from fleet.targets.contract import Standing
from fleet.targets.pairs import dated
from tests.parts.certificates import self_signed

DAY_S = 86400


@pytest.fixture
def certificate(tmp_path):
    """Valid from a day ago to a day from now."""
    self_signed(tmp_path / "a.pem", tmp_path / "a.key", "lab")
    return (tmp_path / "a.pem").read_text()


@pytest.mark.parametrize(
    ("days", "state", "words"),
    [(0.0, "ready", "ends on"), (1.1, "failed", "has ended on"), (-1.1, "failed", "is not valid before")],
)
def test_a_certificate_out_of_its_time_is_said(certificate, days, state, words):
    """Also where it is the server's clock that jumped; one that ends soon is named, and the endpoint is as it was."""
    found = dated(Standing(state="ready"), certificate, time.time() + days * DAY_S)
    assert (found.state, words in found.why) == (state, True), found


def test_one_in_its_time_and_none_are_no_matter(certificate):
    """Neither is what else is said lost."""
    stands = Standing(state="updating", why="replicas are starting")
    assert dated(stands, "", 0.0) == stands
    assert dated(stands, certificate, time.time()).why.endswith("; replicas are starting")
    long_ago = Standing(state="ready")
    assert dated(long_ago, "", 9e9) == long_ago
