"""A published graph behind a scoring server, asked in JSON and in bytes, beside ONNX Runtime asked directly."""

import json

import numpy as np
import onnxruntime
import pytest

# What other threads and another order of additions may change in float32.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
DATATYPES = {"float32": "FP32", "float16": "FP16", "int64": "INT64"}


class Served:
    """One graph, three ways in."""

    def __init__(self, server, path):
        self.server = server
        self._name = path.stem
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.outputs = [one.name for one in self._session.get_outputs()]

    def directly(self, feeds):
        return dict(zip(self.outputs, self._session.run(self.outputs, feeds), strict=True))

    def in_json(self, feeds):
        """Through ``/score``; numbers come back as float32."""
        reply = self.server.ask(body={name: value.tolist() for name, value in feeds.items()})
        assert reply.status == 200, reply.body[:500]
        return {name: np.array(value, np.float32) for name, value in reply.json.items()}

    def in_bytes(self, feeds):
        """Through the Open Inference Protocol's binary tensors."""
        inputs, parts = [], []
        for name, value in feeds.items():
            parts.append(value.tobytes())
            datatype = DATATYPES[value.dtype.name]
            size = {"binary_data_size": len(parts[-1])}
            inputs.append({"name": name, "shape": list(value.shape), "datatype": datatype, "parameters": size})
        head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        reply = self.server.ask(f"/v2/models/{self._name}/infer", b"".join((head, *parts)), headers=headers)
        assert reply.status == 200, reply.body[:500]
        length = int(reply.headers["inference-header-content-length"])
        rest, found = reply.body[length:], {}
        for output in json.loads(reply.body[:length])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            assert output["datatype"] == "FP32"
            found[output["name"]] = np.frombuffer(rest[:size], np.float32).reshape(output["shape"])
            rest = rest[size:]
        assert rest == b""
        return found

    def agreed(self, feeds):
        """The outputs, which are the same each way."""
        mine, listed, raw = self.directly(feeds), self.in_json(feeds), self.in_bytes(feeds)
        assert mine.keys() == listed.keys() == raw.keys()
        for name, expected in mine.items():
            np.testing.assert_allclose(raw[name], expected, **CLOSE, err_msg=name)
            np.testing.assert_array_equal(listed[name], raw[name], err_msg=name)
        return mine


@pytest.fixture(scope="module")
def serve(start):
    """Serve a graph from a file; its name on the server is the file's."""
    return lambda path: Served(start("--model", path).ready(), path)
