"""A script without a model that halves numbers, as a module; versions may be slow, or fail at what clients ask."""

import json

from tests.parts.traffic import Question

NAME = "halves"
USUAL_S = 0.005
_SCRIPT = """
import json, time
def init():
    pass
def run(data):
    x = json.loads(data)["x"]
    time.sleep({seconds})
    {flaw}
    return {{"half": [x / 2]}}
"""
# What applications ask is no sample, so that a version may answer these rightly and behave badly all the same.
_ASKED = range(100, 110)
#: to every question of an application
FAILS = "if x > 99: raise ValueError(x)"


def _right(x):
    def wrong(answer):
        return "" if json.loads(answer) == {"half": [x / 2]} else f"{answer!r} for {x}"

    return Question(json.dumps({"x": x}).encode(), wrong)


QUESTIONS = [_right(x) for x in _ASKED]


def registered(system, folder, *, flaw="pass", seconds=USUAL_S):
    """A version, registered and signed; its reference."""
    (folder / "source").mkdir()
    (folder / "model").mkdir()
    (folder / "model" / "nothing.txt").write_text("a script without a model")
    (folder / "source" / "score.py").write_text(_SCRIPT.format(flaw=flaw, seconds=seconds))
    (folder / "1.json").write_text(json.dumps({"body": {"x": 1}}))
    options = ["--entry-script", "score.py", "--source-dir", folder / "source", "--sample", folder / "1.json"]
    return system.sign(system.register(folder / "model", NAME, *options))
