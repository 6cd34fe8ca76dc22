"""The server that many write first: FastAPI, a pydantic body, one session with one thread."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI, Request
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
taken = session.get_inputs()[0]
given = [one.name for one in session.get_outputs()]
app = FastAPI()


class Rows(BaseModel):
    data: list[list[float]]


def run(array):
    values = session.run(None, {taken.name: array.reshape(-1, *taken.shape[1:])})
    return {name: value.tolist() for name, value in zip(given, values, strict=True)}


@app.post("/score")
def score(rows: Rows):
    return run(np.asarray(rows.data, dtype=np.float32))


@app.post("/raw")
async def raw(request: Request):
    return run(np.frombuffer(await request.body(), dtype="<f4"))
