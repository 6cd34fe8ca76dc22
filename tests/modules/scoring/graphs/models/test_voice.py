"""Silero VAD: is this a voice? The caller carries the model's state from one answer into the next question.

The model takes 512 samples at 16 kHz behind the last 64 of the piece before, its state [2, batch, 128] and, as a number
without dimensions, the rate; it gives the probability of speech and the next state. The voice here is made: pulses
at the pitch of a voice through resonators at the formants of vowels, one vowel after the other.
"""

import numpy as np
import pytest

from tests.parts import pypi_models

RATE = 16_000
PIECE, BEHIND = 512, 64
# The first three formants of five vowels, in Hz, and their bandwidths.
VOWELS = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)]
BANDWIDTHS = (80, 100, 140)
SYLLABLE_S = 0.2
VOICED = slice(PIECE * 20, PIECE * 50)
SAMPLES = PIECE * 70


@pytest.fixture(scope="module")
def served(serve):
    return serve(pypi_models.files(pypi_models.VOICE) / "voice.onnx")


@pytest.fixture(scope="module")
def smaller(serve):
    """The same model with its weights in float16, for this one rate."""
    return serve(pypi_models.files(pypi_models.VOICE) / "voice_half.onnx")


def resonated(source, frequency, bandwidth, previous):
    """A two-pole resonator; ``previous`` are its last two values, which it changes."""
    radius = np.exp(-np.pi * bandwidth / RATE)
    turn = 2 * radius * np.cos(2 * np.pi * frequency / RATE)
    found = np.empty_like(source)
    for position, value in enumerate(source):
        found[position] = (1 - radius) * value + turn * previous[0] - radius * radius * previous[1]
        previous[:] = found[position], previous[0]
    return found


def voice(samples):
    """Vowels at a wavering pitch around 120 Hz, float32 between -1 and 1."""
    pitch = 120 + 15 * np.sin(2 * np.pi * 2.3 * np.arange(samples) / RATE)
    source = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0)
    source += 0.01 * np.random.default_rng(0).standard_normal(samples)
    size = int(SYLLABLE_S * RATE)
    memory = np.zeros((3, 2))
    for number, begin in enumerate(range(0, samples, size)):
        piece = source[begin : begin + size]
        for formant, frequency in enumerate(VOWELS[number % len(VOWELS)]):
            piece = resonated(piece, frequency, BANDWIDTHS[formant], memory[formant])
        source[begin : begin + size] = piece * np.sqrt(np.sin(np.pi * np.arange(len(piece)) / len(piece)))
    return (0.6 * source / np.abs(source).max()).astype(np.float32)


@pytest.fixture(scope="module")
def recording():
    """Silence, a voice, silence."""
    sound = np.zeros(SAMPLES, np.float32)
    sound[VOICED] = voice(VOICED.stop - VOICED.start)
    return sound


def listen(ask, sound, *, carry=True):
    """The probability of speech in each piece of one sound, asked piece by piece."""
    state = np.zeros((2, 1, 128), np.float32)
    behind = np.zeros((1, BEHIND), np.float32)
    found = []
    for begin in range(0, len(sound), PIECE):
        heard = np.concatenate([behind, sound[None, begin : begin + PIECE]], 1)
        answer = ask({"input": heard, "state": state, "sr": np.array(RATE, np.int64)})
        found.append(float(answer["output"][0, 0]))
        behind = heard[:, -BEHIND:]
        if carry:
            state = answer["stateN"]
    return np.array(found)


@pytest.mark.parametrize("way", ["in_json", "in_bytes"])
def test_a_voice_between_silences(served, recording, way):
    """Asked piece by piece with the state carried along, the server hears the voice where it is, and nothing before."""
    heard = listen(getattr(served, way), recording)
    before, voiced, after = heard[:20], heard[20:50], heard[60:]
    assert before.max() < 0.1
    assert (voiced > 0.5).mean() > 0.8
    assert after.max() < 0.3
    np.testing.assert_allclose(heard, listen(served.directly, recording), atol=1e-3)


def test_the_state_is_the_callers(served, recording):
    """A caller that carries no state hears another thing, and leaves no trace in what others are answered."""
    carried = listen(served.in_bytes, recording)
    forgetful = listen(served.in_bytes, recording, carry=False)
    assert np.abs(carried - forgetful).max() > 0.3
    np.testing.assert_array_equal(listen(served.in_bytes, recording), carried)


@pytest.mark.parametrize("kind", ["noise", "tone"])
def test_what_is_no_voice(served, kind):
    """White noise and a steady tone are no voice."""
    if kind == "noise":
        sound = 0.1 * np.random.default_rng(1).standard_normal(PIECE * 30)
    else:
        sound = 0.5 * np.sin(2 * np.pi * 440 * np.arange(PIECE * 30) / RATE)
    assert listen(served.in_bytes, sound.astype(np.float32)).max() < 0.2


def test_several_callers_at_once(served, recording):
    """Two sounds in one request have a state each."""
    heard = np.stack([recording[:576], recording[VOICED][:576]])
    feeds = {"input": heard, "state": np.zeros((2, 2, 128), np.float32), "sr": np.array(RATE, np.int64)}
    assert served.agreed(feeds)["output"].shape == (2, 1)


def test_the_rate_has_no_dimensions(served):
    """A list where the graph takes a single number is refused, and the answer says so."""
    body = {"input": [[0.0] * 576], "state": np.zeros((2, 1, 128)).tolist(), "sr": [RATE]}
    reply = served.server.ask(body=body)
    assert reply.status == 400
    assert "expected int64[], got shape [1]" in reply.json["message"]


def test_ready_without_a_warm_up(served):
    """A graph that no zeros suit, since 0 Hz is no rate, is served all the same, and the log says it is not warm."""
    assert "no example could be made for voice.onnx" in served.server.log
    assert served.server.ask("/v2/health/ready").json == {"ready": True}


def test_a_batch_axis_that_is_not_the_first(smaller, recording):
    """State of [2, batch, 128] is known to have the sound's batch: the graph is warmed up, and its example runs."""
    assert "no example could be made" not in smaller.server.log
    operation = smaller.server.ask("/swagger.json?version=3.1").json["paths"]["/score"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert np.shape(example["state"]) == (2, 1, 128)
    assert smaller.server.ask(body=example).status == 200
    feeds = {"input": recording[VOICED][None, :576], "state": np.zeros((2, 1, 128), np.float32)}
    smaller.agreed(feeds)
