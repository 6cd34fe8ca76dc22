"""``edgefleet server``: what it shows of a real server and its broker."""


def test_a_founded_server_shows_certificates_broker_and_settings(run):
    found = run("server", "certificates")
    assert {"ca", "broker", "server"} < {one["name"] for one in found["fleet"]}
    # This server was given the address of a broker that is not there.
    seen = {one["name"]: one["ok"] for one in run("server", "broker", code=1)}
    assert seen == {"the server's session": False, "devices' listener": False, "services' listener": False} | {
        "access rules": None
    }
    every, changed = run("server", "settings"), run("server", "settings", "--changed")
    assert len(changed) < len(every)
    assert "EDGEFLEET_FLEET_BROKER_PORT" in {one["variable"] for one in changed}
