"""Settings of bandwidth: read at the door, and followed while the database cannot say more."""

import pytest

from fleet.limits import LEAST, LabelLimit, Limits, read_label_limits
from fleet.settings import Settings
from modules.errors import BadSettings
from modules.names import DeviceId

DEVICE = DeviceId("dev-a")


def test_limits_by_label_are_read():
    """Spaces and a comma at the end are nothing; a value may have a colon."""
    read = read_label_limits(" link=lte:50000, site=ship:1:20000, ")
    assert read == (LabelLimit("link", "lte", 50_000), LabelLimit("site", "ship:1", 20_000))
    assert read_label_limits("") == ()


@pytest.mark.parametrize(
    "text",
    ["link", "link=lte", "link=lte:", "link=lte:fast", "=lte:50000", "link=:50000", "link=lte:-1", "link=lte:100"],
)
def test_what_is_no_limit_is_refused_at_the_door(text):
    """The server does not start with a limit that it would not keep; the message shows the part, and the form."""
    with pytest.raises(BadSettings, match="LABEL=VALUE:BYTES"):
        Settings(device_limits=f"a=b:50000,{text}")


@pytest.mark.parametrize("name", ["pull_bytes_s", "device_bytes_s"])
def test_a_limit_with_which_no_block_comes_in_time_is_refused(name):
    """0 is no limit, and anything below 16 KiB a second a mistake."""
    assert getattr(Settings(**{name: 0}), name) == 0
    assert getattr(Settings(**{name: LEAST}), name) == LEAST
    with pytest.raises(BadSettings, match="too few"):
        Settings(**{name: LEAST - 1})


@pytest.mark.parametrize(
    ("labels", "device", "rate"),
    [
        ({}, 0, None),
        ({}, 90_000, 90_000),
        ({"link": "lte"}, 0, 50_000),
        ({"link": "lte"}, 40_000, 40_000),
        ({"link": "lte", "site": "ship"}, 90_000, 20_000),
        ({"link": "fibre"}, 90_000, 90_000),
    ],
)
async def test_the_lowest_limit_counts(labels, device, rate):
    """Of the setting for all and of every label that the device has."""
    by_label = read_label_limits("link=lte:50000,site=ship:20000")
    bucket = await Limits(device=device, by_label=by_label, labels_of=lambda _: labels).of(DEVICE)
    assert (bucket and bucket.rate) == rate


async def test_a_database_that_is_away_lifts_no_limit(monkeypatch):
    """What was known stays; of a device that nobody knows, the setting for all counts."""
    known = {"link": "lte"}

    def labels_of(_):
        if known is None:
            raise RuntimeError("no database")
        return known

    limits = Limits(device=90_000, by_label=read_label_limits("link=lte:50000"), labels_of=labels_of)
    assert (await limits.of(DEVICE)).rate == 50_000
    known = None
    monkeypatch.setattr("fleet.limits._KEPT_S", 0.0)
    assert (await limits.of(DEVICE)).rate == 50_000
    assert (await limits.of(DeviceId("dev-new"))).rate == 90_000
