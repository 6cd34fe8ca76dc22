"""A module that takes its time with each input, answers it with a mark of exclamation, and dies at "die"."""

SCRIPT = """
import json, os, time
def run(data):
    time.sleep(0.05)
    if json.loads(data) == "die": os.kill(os.getpid(), 9)
    return json.loads(data) + "!"
"""


def registered(system, folder):
    """Registered and signed; its reference."""
    (folder / "source").mkdir()
    (folder / "source/score.py").write_text(SCRIPT)
    (folder / "model.txt").write_text("none")
    (folder / "one.json").write_text('{"body": "a"}')
    options = ["--entry-script", "score.py", "--source-dir", folder / "source", "--sample", folder / "one.json"]
    return system.sign(system.register(folder / "model.txt", "slow", *options))


def lines(count, poison=7):
    """So many inputs as JSON lines, one of them poison."""
    return "".join(f'"{"die" if number == poison else number}"\n' for number in range(count))


def answers(count, poison=7):
    """What stands in the output for them, in its order."""
    return [f"{number}!" for number in range(count) if number != poison]
