"""Which server is meant, and who may read the token."""

import pytest

from fleet.client import config
from fleet.client.config import Config
from modules.errors import BadSettings

HERE = Config(url="https://fleet.example:8443", token="secret")


def test_what_is_saved_is_loaded_and_private(home):
    """The config file comes back as it was written, and nobody else can read it."""
    file = config.save(HERE)

    assert config.load() == HERE
    assert file == home / "config.json"
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_environment_stands_above_the_file(home, monkeypatch, tmp_path):
    """A pipeline sets what it needs without touching the user's file."""
    config.save(HERE)
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    monkeypatch.setenv("EDGEFLEET_URL", "https://other.example/")
    monkeypatch.setenv("EDGEFLEET_TOKEN", "other")
    monkeypatch.setenv("EDGEFLEET_CA", str(ca))

    assert config.load() == Config(url="https://other.example", token="other", ca=ca.read_text())


def test_without_any_server_the_way_to_log_in_is_said(home):
    """The first command of a new user ends with the command to run."""
    with pytest.raises(BadSettings) as caught:
        config.load()

    assert "edgefleet login" in caught.value.remedy


@pytest.mark.parametrize("content", [b"{", b'{"url": "https://x", "token": "t", "tokne": 1}'], ids=["torn", "unknown"])
def test_a_damaged_file_is_named(home, content):
    """A torn or mistyped config file is an error that names the file."""
    home.mkdir()
    (home / "config.json").write_bytes(content)

    with pytest.raises(BadSettings) as caught:
        config.load()

    assert caught.value.element == str(home / "config.json")


@pytest.mark.parametrize(
    "url",
    [
        "fleet.example", "ftp://fleet.example", "http://fleet.example", "https://", "https://[::1", "https://x:99999",
        "https://x:y", "https://me:secret@x", "https://x y", "https://fl\u00fcet.example",
    ],
)  # fmt: skip
def test_an_address_that_is_none_or_unsafe_is_refused(url):
    """No token travels in clear over a network."""
    with pytest.raises(BadSettings):
        config.check_url(url)


@pytest.mark.parametrize("token", ["s\u00fc\u00df", "two words", "two\nlines"])
def test_a_token_that_cannot_be_sent_is_refused(home, monkeypatch, token):
    """A token that was copied wrongly is an error of ours, not of what would send it; spaces around it are nothing."""
    config.save(Config(url="https://fleet.example", token=token))
    with pytest.raises(BadSettings, match="not a token"):
        config.load()
    monkeypatch.setenv("EDGEFLEET_TOKEN", " other\n")
    assert config.load().token == "other"


def test_clear_http_is_for_this_machine_alone():
    """A trial on loopback needs no certificate."""
    assert config.check_url("http://127.0.0.1:8000/") == "http://127.0.0.1:8000"


@pytest.mark.parametrize("content", [None, b"no certificate", b"\xff\xfe"], ids=["missing", "text", "binary"])
def test_a_ca_file_without_a_certificate_is_refused(tmp_path, content):
    """A wrong CA file is noticed when it is named, not at the first connection."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(BadSettings) as caught:
        config.read_ca(file)

    assert caught.value.element == str(file)
