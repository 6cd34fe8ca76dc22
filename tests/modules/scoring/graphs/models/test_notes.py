"""Basic Pitch: which notes sound when. A TensorFlow model, as its makers converted it with tf2onnx, and converted here.

It takes 43 844 samples at 22 050 Hz, float32 [batch, samples, 1], and gives for every 256 of them the probability that
each of the 88 keys of a piano, from A0 (MIDI 21), begins and that it sounds. Converting needs TensorFlow, more than a
gigabyte with what it brings: that test makes an environment for it in ``.cache``, and is a long one.
"""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.parts import pypi_models
from tests.parts.environments import TENSORFLOW, environment
from tests.parts.pace import stretched

RATE, SAMPLES, STEP = 22_050, 43_844, 256
LOWEST = 21
IN = "serving_default_input_2:0"
BEGINS, SOUNDS = "StatefulPartitionedCall:2", "StatefulPartitionedCall:1"
# MIDI number, begin and end in seconds.
CHORD = [(60, 0.3, 1.6), (64, 0.3, 1.6), (67, 0.3, 1.6)]
MELODY = [(57, 0.2, 0.7), (69, 0.8, 1.3), (76, 1.4, 1.9)]
SURE = 0.6


@pytest.fixture(scope="module")
def folder():
    return pypi_models.files(pypi_models.NOTES)


@pytest.fixture(scope="module")
def served(serve, folder):
    return serve(folder / "notes.onnx")


def played(notes):
    """The notes on a string of six partials, as the model's input."""
    time = np.arange(SAMPLES) / RATE
    sound = np.zeros(SAMPLES)
    for midi, begin, end in notes:
        pitch = 440 * 2 ** ((midi - 69) / 12)
        string = sum(np.sin(2 * np.pi * pitch * partial * time) / partial**1.5 for partial in range(1, 7))
        sound += string * ((time >= begin) & (time < end)) * np.exp(-1.5 * (time - begin).clip(0))
    return {IN: (0.7 * sound / np.abs(sound).max()).astype(np.float32)[None, :, None]}


def sounding(answer, second):
    """The keys that surely sound at a time."""
    return (np.flatnonzero(answer[SOUNDS][0, int(second * RATE / STEP)] > SURE) + LOWEST).tolist()


def test_a_chord(served):
    """The three notes of a chord sound together, and none before it; the same each way."""
    answer = served.agreed(played(CHORD))
    assert answer[SOUNDS].shape == (1, 172, 88)
    assert sounding(answer, 0.15) == []
    assert sounding(answer, 0.6) == [60, 64, 67]


def test_a_melody(served):
    """Notes one after the other are heard when they are played, and begin where they begin."""
    answer = served.in_bytes(played(MELODY))
    assert [sounding(answer, (begin + end) / 2) for _, begin, end in MELODY] == [[57], [69], [76]]
    for midi, begin, _ in MELODY:
        heard = answer[BEGINS][0, :, midi - LOWEST]
        assert heard.max() > SURE
        assert abs(heard.argmax() * STEP / RATE - begin) < 0.05


def test_silence(served):
    """Nothing sounds in silence."""
    answer = served.in_bytes({IN: np.zeros((1, SAMPLES, 1), np.float32)})
    assert max(answer[BEGINS].max(), answer[SOUNDS].max()) < 0.5


def test_two_recordings_in_one_request(served):
    """Each recording of a batch has its own notes."""
    both = {IN: np.concatenate([played(CHORD)[IN], played(MELODY)[IN]])}
    answer = served.agreed(both)
    assert sounding({SOUNDS: answer[SOUNDS][1:]}, 0.45) == [57]
    assert sounding(answer, 0.6) == [60, 64, 67]


@pytest.mark.timeout(1200)
@pytest.mark.long
def test_a_saved_model_converted_here(serve, folder, tmp_path):
    """The SavedModel, converted with tf2onnx and served, gives what TensorFlow itself gives."""
    saved = tmp_path / "saved"
    (saved / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables.index", "variables.data-00000-of-00001"):
        place = saved if name.endswith(".pb") else saved / "variables"
        (place / name).write_bytes((folder / name).read_bytes())
    feeds = played(CHORD)
    np.save(tmp_path / "chord.npy", feeds[IN])
    script = Path(__file__).with_name("saved_model_to_onnx.py")
    command = [environment("tensorflow", *TENSORFLOW), script, saved, tmp_path / "chord.npy", tmp_path / "converted"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=stretched(300), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = serve(tmp_path / "converted.onnx").agreed(feeds)
    with np.load(tmp_path / "converted.npz") as tensorflow:
        assert set(tensorflow) == set(answer)
        for name, expected in tensorflow.items():
            np.testing.assert_allclose(answer[name], expected, rtol=1e-2, atol=1e-3, err_msg=name)
    assert sounding(answer, 0.6) == [60, 64, 67]
