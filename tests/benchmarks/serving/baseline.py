"""The physical limit: one thread that calls the session in a bare loop, for a few seconds; prints runs per second."""

import sys
import time

import numpy as np
import onnxruntime

model, body, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
taken = session.get_inputs()[0]
feeds = {taken.name: np.fromfile(body, "<f4").reshape(-1, *taken.shape[1:])}
for _ in range(3):
    session.run(None, feeds)
count, started = 0, time.perf_counter()
while time.perf_counter() - started < seconds:
    session.run(None, feeds)
    count += 1
print(count / (time.perf_counter() - started))
