"""The server inside a module's container: ``python -m modules.scoring``.

Read in this order: ``settings`` (what to serve, where), ``runtime`` (the contract of everything that scores),
``graphs/onnx`` and ``scripts/entry_script`` (its two implementations), ``http/app`` and ``v2/`` (protocols to that
contract and back), ``server`` (socket, signals).

onnxruntime sends telemetry unless this variable stands in the environment before it is first imported; setting it here
puts it before every import below this package, and worker processes inherit it.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
