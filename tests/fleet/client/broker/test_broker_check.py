"""``edgefleet broker check``: the product's own configuration enforces everything, and each gap of another is told."""

import json
import time

import pytest
from typer.testing import CliRunner

from fleet import probes
from fleet.client.cli import app
from fleet.folder import Folder
from fleet.settings import Settings
from fleet.setup import initialise
from modules.errors import BadSettings
from tests.parts.mosquitto import broker


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("fleet"))
    initialise(folder, time.time)
    return folder


def settings(data, running):
    return Settings(
        data=data.root,
        broker_host=running.host,
        broker_port=running.device_port,
        broker_service_port=running.service_port,
    )


def checked(tmp_path, data, running):
    """The command's exit code, and the names of what is not enforced with what that means."""
    probes.write(tmp_path / "probes", data, settings(data, running))
    result = CliRunner().invoke(app, ["broker", "check", str(tmp_path / "probes"), "--json"])
    assert result.stdout, result.exception
    document = json.loads(result.stdout)
    assert "checks" in document, document
    return result.exit_code, {one["name"]: one["means"] for one in document["checks"] if one["enforced"] is False}


@pytest.mark.needs("mosquitto")
@pytest.mark.long
def test_the_products_own_broker_enforces_all(tmp_path, data):
    """With the configuration that edgefleet renders, no probe opens anything that it should not."""
    with broker(tmp_path / "broker", data) as running:
        code, broken = checked(tmp_path, data, running)

    assert broken == {}
    assert code == 0


@pytest.mark.long
@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            ("acl_file", "# acl_file"),
            {
                "a device cannot write what another device says",
                "a device cannot write what another device is told",
                "a device cannot read another device's orders",
                "a device cannot read everything, by #",
                "a device's last will is its own",
            },
        ),
        (("use_username_as_clientid true", ""), {"a session has its certificate's name"}),
        (("max_packet_size 393216", ""), {"a message has a largest size"}),
        (("max_packet_size 393216", "max_packet_size 131072"), {"the largest order, 360 KiB arrives"}),
        (("tls_version tlsv1.2", "tls_version tlsv1.1\nciphers ALL:@SECLEVEL=0"), {"nobody comes in with TLSv1_1"}),
    ],
)
def test_what_is_not_enforced_is_told(tmp_path, data, changed, told):
    """Each rule that is taken out of the configuration is found, by what it lets happen."""
    with broker(tmp_path / "broker", data, edit=lambda text: text.replace(*changed, 1)) as running:
        code, broken = checked(tmp_path, data, running)

    assert told <= broken.keys()
    assert code == 1


def test_probes_end(tmp_path, data):
    """A folder of probes that has expired, or is none, is told in words; probes never go into a folder in use."""
    probes.write(tmp_path / "probes", data, Settings(data=data.root))
    with pytest.raises(BadSettings, match="not empty"):
        probes.write(tmp_path / "probes", data, Settings(data=data.root))

    file = tmp_path / "probes" / "probes.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"expires": 1.0}))
    late = CliRunner().invoke(app, ["broker", "check", str(tmp_path / "probes"), "--json"])
    empty = CliRunner().invoke(app, ["broker", "check", str(tmp_path), "--json"])

    assert "have expired" in late.stdout
    assert "there are no probes" in empty.stdout
    assert late.exit_code == empty.exit_code == 1
