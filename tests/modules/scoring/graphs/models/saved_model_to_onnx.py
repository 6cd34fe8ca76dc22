"""Run a TensorFlow SavedModel, and make an ONNX graph of it: ``python saved_model_to_onnx.py FOLDER INPUT.npy OUT``.

Runs in an environment of its own, with TensorFlow and tf2onnx. Writes ``OUT.onnx`` and, as ``OUT.npz``, what TensorFlow
itself gives for the input. The graph is loaded by its signature alone: published models often carry objects of
a Keras that no later one revives.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf2onnx

folder, given, out = sys.argv[1:]
v1 = tf.compat.v1
with v1.Session(graph=v1.Graph()) as session:
    loaded = v1.saved_model.loader.load(session, [tf.saved_model.SERVING], folder)
    signature = loaded.signature_def[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
    inputs = [one.name for one in signature.inputs.values()]
    outputs = [one.name for one in signature.outputs.values()]
    expected = session.run(outputs, {inputs[0]: np.load(given)})
    names = [name.partition(":")[0] for name in outputs]
    frozen = v1.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), names)
np.savez(Path(out).with_suffix(".npz"), **dict(zip(outputs, expected, strict=True)))
tf2onnx.convert.from_graph_def(
    frozen, input_names=inputs, output_names=outputs, opset=17, output_path=str(Path(out).with_suffix(".onnx"))
)
