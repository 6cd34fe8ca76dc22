"""``edgefleet audit``, called as an operator calls it, against a running server."""

import json


def test_it_is_listed_exported_and_verified(run, tmp_path):
    """An operator sees who did what, takes the log away, and finds out that a line of it was changed."""
    run("devices", "join", "--out", tmp_path / "join.json")
    file, key = tmp_path / "audit.jsonl", tmp_path / "audit.key"

    listed = run("audit", "list", "--action", "join-tokens")
    exported = run("audit", "export", file)
    key.write_text(json.dumps(run("audit", "key")))

    assert (listed[0]["target"], listed[0]["outcome"]) == ("/api/v1/join-tokens", 200)
    assert exported["rows"] >= len(listed)
    assert file.stat().st_mode & 0o077 == 0
    assert run("audit", "verify", file, "--key", key)["flaws"] == []
    assert run("audit", "verify", "--key", key)["rows"] >= exported["rows"]

    file.write_text(file.read_text().replace("/api/v1/join-tokens", "/api/v1/devices", 1))
    assert run("audit", "verify", file, "--key", key, code=1)["flaws"][0]["code"] == "edited"


def test_what_is_no_log_is_told(run, tmp_path):
    """A file that is there is not written over, and one that is no log is not read as one."""
    file = tmp_path / "other.txt"
    file.write_text("hello")

    assert "already" in run("audit", "export", file, code=1)["error"]["message"]
    assert "cannot be read" in run("audit", "verify", file, code=1)["error"]["message"]
    file.write_text("{}")
    assert "not an exported audit log" in run("audit", "verify", file, code=1)["error"]["message"]
