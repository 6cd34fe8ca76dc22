# ruff: noqa: INP001 - an entry script stands alone
"""Entry script of the file-type example: a file's bytes in, what kind of file it is out.

    curl --data-binary @photo.png http://127.0.0.1:8700/score
    {"label": "png", "score": 0.99, "mime_type": "image/png", "group": "image", "description": "PNG image"}

The features are those that the model's configuration asks for: of the first ``block_size`` bytes, without leading white
space, the first ``beg_size``; of the last ``block_size``, without trailing white space, the last ``end_size``; padding
where there are fewer. An answer that the model is not sure of becomes plain text or unknown, by its thresholds.
"""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

MODEL = Path(os.environ["AZUREML_MODEL_DIR"])


class Detector:
    """The session with its configuration."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.types = json.loads((folder / "content_types.json").read_text())
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        unknown = {"mid_size": 0, "use_inputs_at_offsets": False}
        if any(self.config[name] != value for name, value in unknown.items()):
            raise ValueError("this script knows only models with features from the beginning and the end")

    def detect(self, content: bytes) -> tuple[str, float]:
        """(label, score) of some bytes."""
        if not content:
            return "empty", 1.0
        least, padding = self.config["min_file_size_for_dl"], self.config["padding_token"]
        features = self.features(content)
        if len(content) < least or features[least - 1] == padding:
            return self.from_few(content[: self.config["block_size"]]), 1.0
        scores = self.session.run(["target_label"], {"bytes": features[None]})[0][0]
        best = int(scores.argmax())
        return self.judged(self.config["target_labels_space"][best], float(scores[best])), float(scores[best])

    def features(self, content: bytes) -> np.ndarray:
        """int32[beg_size + end_size]: the first bytes, padding, the last bytes."""
        block, first, last = (self.config[name] for name in ("block_size", "beg_size", "end_size"))
        features = np.full(first + last, self.config["padding_token"], np.int32)
        beginning = np.frombuffer(content[:block].lstrip()[:first], np.uint8)
        end = np.frombuffer(content[-block:].rstrip()[-last:], np.uint8)
        features[: len(beginning)] = beginning
        features[len(features) - len(end) :] = end
        return features

    def judged(self, label: str, score: float) -> str:
        """The label, or the general one of its kind where the score is below the label's threshold."""
        config = self.config
        renamed = config["overwrite_map"].get(label, label)
        if score >= config["thresholds"].get(label, config["medium_confidence_threshold"]):
            return renamed
        return "txt" if self.types[renamed]["is_text"] else "unknown"

    @staticmethod
    def from_few(content: bytes) -> str:
        """Too few bytes for the model: text, or not."""
        try:
            content.decode()
        except UnicodeDecodeError:
            return "unknown"
        return "txt"


def init() -> None:
    global detector  # noqa: PLW0603 - entry scripts keep their model so
    detector = Detector(MODEL)


@rawhttp
def run(request: AMLRequest) -> AMLResponse | dict:
    if request.method != "POST":
        return AMLResponse({"message": "POST the bytes of a file"}, 405, {"Allow": "POST"}, json_str=True)
    label, score = detector.detect(request.get_data())
    known = detector.types.get(label, {})
    about = {name: known.get(name) for name in ("mime_type", "group", "description")}
    return {"label": label, "score": round(score, 6), **about}
