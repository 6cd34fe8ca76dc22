"""Models of other libraries, saved and registered as far as the server."""

import json

import joblib
import pytest

from fleet.client.publishing.register import Model, prepare
from modules import samples as samples_file


@pytest.fixture
def save(tmp_path):
    def run(model, name="model.pkl"):
        file = tmp_path / name
        joblib.dump(model, file)
        return file

    return run


@pytest.fixture
def convert(tmp_path, workspace, silent):
    """Registers as far as the server; gives the manifest and its samples."""

    def run(file, *requests, trusted=True, **more):
        samples = []
        for number, request in enumerate(requests):
            samples.append(tmp_path / f"request-{number}.json")
            samples[-1].write_text(json.dumps(request))
        folder = tmp_path / "packed"
        folder.mkdir(exist_ok=True)
        model = Model(
            path=file, team="acme", name="converted", engine="process", samples=tuple(samples), trusted_pickle=trusted,
            **more,
        )  # fmt: skip
        manifest = prepare(model, None, workspace.blobs, folder, silent)
        return manifest, samples_file.decode((folder / "files/samples.json").read_bytes()).samples

    return run
