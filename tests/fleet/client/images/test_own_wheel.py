"""What is installed from a wheel gives the same wheel again, so that no checkout is needed to build an image."""

import json
import subprocess
import sys
import zipfile

import pytest

from fleet.client.images.own_wheel import is_checkout, make_own_wheel
from tests.parts.pace import stretched

AGAIN = """
import json, pathlib, sys
import modules
from fleet.client.images import image_build
from fleet.client.images.own_wheel import is_checkout, make_own_wheel
made = make_own_wheel(pathlib.Path(sys.argv[1]))
print(json.dumps({
    "made": str(made), "checkout": is_checkout(), "from": modules.__file__,
    "there": [file.is_file() for file in (image_build.SCORING.dockerfile, *image_build.SCORING.locks)],
}))
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The wheel as it is built from this checkout."""
    assert is_checkout()
    return make_own_wheel(tmp_path_factory.mktemp("original"))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_an_installed_wheel_is_packed_again(original, tmp_path):
    """Code and metadata are the same bytes, which pip installs; Dockerfile and locks are where pip put them."""
    place = tmp_path / "installed"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=stretched(60))
    python = place / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(original)], check=True, timeout=stretched(120))
    (packages,) = place.glob("lib/python*/site-packages")
    # What the client imports comes from here; edgefleet itself from where it was installed.
    (packages / "others.pth").write_text("\n".join(one for one in sys.path if "site-packages" in one) + "\n")

    done = subprocess.run(
        [str(python), "-P", "-c", AGAIN, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True,
        timeout=stretched(60), check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["from"].startswith(str(packages))
    assert (told["checkout"], told["there"]) == (False, [True, True])
    with zipfile.ZipFile(original) as first, zipfile.ZipFile(told["made"]) as second:
        names = {name for name in first.namelist() if ".data/" not in name and not name.endswith("/RECORD")}
        assert {name for name in second.namelist() if not name.endswith("/RECORD")} == names
        assert all(first.read(name) == second.read(name) for name in names)
    again = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        tmp_path / "again",
    ]
    subprocess.run([*again, told["made"]], check=True, timeout=stretched(120))
    assert (tmp_path / "again/modules/scoring/__main__.py").is_file()
