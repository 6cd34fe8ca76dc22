"""``edgefleet images push``: from the workspace to a real registry."""

import json

import pytest
from typer.testing import CliRunner

from fleet.client.cli import app
from tests.fleet.test_images_push import image, running, stored
from tests.parts.docker_registry import PASSWORD, USER

__all__ = ["running"]
pytestmark = pytest.mark.needs("docker-registry")


def test_an_image_of_the_workspace_is_pushed(workspace, running, tmp_path, monkeypatch):
    """The output is what a cluster pulls; the password comes from the environment, the authority from a file."""
    made = image(workspace.blobs)
    workspace.keep_image(made)
    (tmp_path / "ca.pem").write_text(running.ca)
    monkeypatch.setenv("EDGEFLEET_REGISTRY_PASSWORD", PASSWORD)
    words = ["images", "push", "x", f"{running.address}/fleet/digits", "--user", USER, "--ca", str(tmp_path / "ca.pem")]

    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["reference"] == f"{running.address}/fleet/digits@{made.manifest.sha256}"
    assert stored(running, f"manifests/{made.manifest.sha256}").status_code == 200
    assert PASSWORD not in done.output

    refused = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "none.pem")])
    assert refused.exit_code != 0
