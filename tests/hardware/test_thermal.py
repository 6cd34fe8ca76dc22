"""How hot a machine says that it is, as its kernel's files have it."""

import pytest

from hardware.probe import probe
from hardware.system import System
from hardware.thermal import temperature


def machine(root, files):
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return System(root)


@pytest.mark.parametrize(
    ("files", "degrees"),
    [
        pytest.param({}, None, id="where nothing is known"),
        pytest.param({"thermal/thermal_zone0/temp": "48312\n"}, 48.312, id="of a board"),
        pytest.param(
            {"thermal/thermal_zone0/temp": "48000", "thermal/thermal_zone1/temp": "61000"}, 61.0, id="the hottest place"
        ),
        pytest.param(
            {
                "thermal/thermal_zone0/temp": "-274000",
                "thermal/thermal_zone1/temp": "200000",
                "thermal/x/temp": "50000",
            },
            None,
            id="a sensor that is not connected",
        ),
        pytest.param(
            {
                "thermal/cooling_device0/type": "fan",
                "hwmon/hwmon1/temp1_input": "39000",
                "hwmon/hwmon1/temp1_max": "99000",
            },
            39.0,
            id="of a chip where there is no zone",
        ),
        pytest.param({"thermal/thermal_zone0/temp": "hot"}, None, id="words"),
    ],
)
def test_temperature(tmp_path, files, degrees):
    """The hottest place in degrees; None where the kernel says nothing, or nothing that can be. The facts say which."""
    system = machine(tmp_path, {f"sys/class/{path}": text for path, text in files.items()})

    assert temperature(system) == degrees
    assert probe(tmp_path, system).thermal is (degrees is not None)
