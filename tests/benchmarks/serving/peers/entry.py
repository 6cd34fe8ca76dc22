"""The same model behind an entry script, for every server that runs entry scripts."""

import json
import os

import numpy as np
import onnxruntime


def init():
    global session, taken, given  # noqa: PLW0603 - this is how entry scripts are written
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0].name
    given = [one.name for one in session.get_outputs()]


def run(data):
    rows = np.asarray(json.loads(data)["data"], dtype=np.float32)
    values = session.run(given, {taken: rows})
    return {name: value.tolist() for name, value in zip(given, values, strict=True)}
