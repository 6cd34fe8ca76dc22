"""The examples: their files are what they say, and the file-type script recognises real files."""

import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from modules.errors import Untrusted
from modules.examples import digits, filetype, packages
from modules.examples.filetype import fetch
from tests.parts.filetype import published

DIGITS = Path(digits.__file__).parent
FILETYPE = Path(filetype.__file__).parent
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c"
    "4944415408d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
PDF = (
    b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n"
    b"2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n"
    b"3 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 72] >>\nendobj\n"
    b"xref\n0 4\n0000000000 65535 f \ntrailer\n<< /Root 1 0 R /Size 4 >>\nstartxref\n190\n%%EOF\n"
)


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.txt", "b.txt"):
            archive.writestr(name, "some text " * 100)
    return stream.getvalue()


KINDS = [
    ("python", Path(fetch.__file__).read_bytes()),
    ("json", json.dumps({"team": "acme", "sizes": list(range(40)), "nested": {"a": [True, None]}}, indent=1).encode()),
    ("pdf", PDF),
    ("png", PNG),
    ("zip", zipped()),
    ("elf", Path(sys.executable).resolve().read_bytes()[: 1 << 20]),
    ("onnx", (DIGITS / "digits.onnx").read_bytes()),
    ("html", b"<!DOCTYPE html>\n<html><head><title>a</title></head><body><p>hello</p></body></html>\n"),
    ("shell", b'#!/bin/sh\nset -e\nfor file in "$@"; do\n  echo "$file"\ndone\n'),
    ("empty", b""),
    ("txt", b"abc"),
    ("txt", b"   \n\n   abc    \n"),
    ("unknown", b"\xff\xfe\xfd"),
]


def test_digits_accuracy():
    """The accuracy that was measured is at least what we ask of it, with what made it."""
    measured = json.loads((DIGITS / "accuracy.json").read_text())
    assert measured["accuracy"] >= 0.97
    assert measured["held_out_images"] >= 400
    assert {"python", "scikit-learn", "skl2onnx", "onnxruntime"} <= measured["versions"].keys()


def test_digits_samples():
    """There are sample images of all ten digits, with 64 grey values from 0 to 16."""
    samples = json.loads((DIGITS / "digit.json").read_text())
    assert {one["digit"] for one in samples} == set(range(10))
    assert all(len(one["pixels"]) == 64 and 0 <= min(one["pixels"]) <= max(one["pixels"]) <= 16 for one in samples)


def test_digits_size():
    """The graph is small enough to be kept with the sources."""
    assert (DIGITS / "digits.onnx").stat().st_size < 100_000


def test_other_package_is_not_opened(tmp_path):
    """A package with another digest than the pinned one is refused before it is opened."""
    wheel = tmp_path / "magika.whl"
    wheel.write_bytes(zipped())
    with pytest.raises(Untrusted, match="do not use this package"):
        packages.unpack(fetch.PACKAGE, wheel, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return published(tmp_path_factory.mktemp("filetype"))


@pytest.fixture(scope="module")
def detector(model, free_port):
    """The address of a server with the file-type script."""
    port = free_port()
    command = [sys.executable, "-m", "modules.scoring", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--script", str(FILETYPE / "source/score.py"), "--model-dir", str(model)]
    process = subprocess.Popen(command, cwd=FILETYPE.parents[2])
    end = time.monotonic() + 60
    try:
        while not healthy(port):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(30) == 0


def healthy(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).status == 200
    except OSError:
        return False


@pytest.mark.parametrize(("label", "content"), KINDS, ids=[f"{label}-{len(content)}" for label, content in KINDS])
def test_filetype(detector, label, content):
    """When the bytes are of a known kind the script names it, whatever the request says they are."""
    request = urllib.request.Request(
        f"{detector}/score", content, {"content-type": "application/octet-stream"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    assert answer["label"] == label
    assert 0.5 <= answer["score"] <= 1


def test_filetype_provider(detector):
    """The provider that the script's own session really uses is reported."""
    with urllib.request.urlopen(f"{detector}/edgefleet/status", timeout=30) as response:
        assert json.load(response)["provider_in_use"] == "CPUExecutionProvider"
