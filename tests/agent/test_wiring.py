"""Which engines an agent has: the device's own settings decide, and no order."""

from agent.identity import Identity
from agent.installation import Installation
from agent.settings import Settings
from agent.wiring import engines
from modules.names import device_id
from modules.protocol.enrollment import Broker


def test_a_module_is_a_process_only_where_the_device_names_an_interpreter(tmp_path):
    """The engine that isolates nothing is not there by itself."""
    identity = Identity(device=device_id("dev-1"), fleet="https://f", broker=Broker(host="b", port=1))
    installation = Installation(id="a" * 12, modules=tmp_path)

    assert set(engines(Settings(state=str(tmp_path)), identity, installation)) == {"docker"}
    named = Settings(state=str(tmp_path), process_interpreter="/usr/bin/python3")
    assert set(engines(named, identity, installation)) == {"docker", "process"}
