"""``make demo``: broker, fleet server and one device on this machine; a model from registration to a scored digit.

Everything lies in one folder, ``.demo``, which each run empties first; only the scoring image stays, in the engine,
under the name that is printed (``make clean`` removes both). With ``--once`` it stops by itself, and its last line is
one JSON object.
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from deploy.demo import brokers, crowd, left
from deploy.demo.picture import picture
from deploy.demo.programs import HOST, Failed
from deploy.demo.steps import IMAGE, Demo, console, digits
from modules.program import INTERRUPTED, run

FOLDER: Final = Path(__file__).parents[2] / ".demo"
# Which of the committed images is shown: a 7.
SHOWN: Final = 14
_CHECK_S: Final = 1.0


def main() -> int:
    """Run the demo; 0 when it worked, 1 with the failing step named."""
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    try:
        lock = _take(folder)
        left.clear(folder)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.clean:
        shutil.rmtree(folder)
        return 0
    left.mark(folder)
    demo = Demo(folder, gateway_port=arguments.gateway_port)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    staying = False
    try:
        result = _story(demo, arguments)
        if arguments.devices:
            result["simulated"] = crowd.story(demo, result["module"], arguments.devices)
        staying = not arguments.once
        if staying:
            _stay(demo)
    except Failed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        console.print()
        # What only stayed has done all that it was asked for.
        return 0 if staying else INTERRUPTED
    finally:
        demo.stop()
        os.close(lock)
    print(json.dumps(result))
    return 0


def _take(folder: Path) -> int:
    """Take the folder for this run alone; returns the lock's file descriptor.

    Raises:
        Failed: another demo runs in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Failed(f"another demo runs in {folder}: end it, or name another --folder") from None
    return lock


def _story(demo: Demo, arguments: argparse.Namespace) -> dict[str, Any]:
    console.print("\n[bold]A fleet of one, on this machine[/]")
    demo.step("make the fleet: authority, keys that stay online", demo.make_fleet)
    broker = demo.step(
        "start the broker",
        lambda: brokers.start(demo.programs, demo.folder / "broker", demo.data, choice=arguments.broker),
    )
    console.print(f"    {broker.name}: {broker.note}")
    url = demo.step("start the fleet server", lambda: demo.start_server(broker))
    demo.choose_password()
    demo.step("make the signing keys", lambda: demo.make_keys(url))
    console.print("    [yellow]demo keys: unencrypted, and beside the server; never do that with a real fleet[/]")
    if demo.step("build the scoring image", lambda: demo.make_image(choice=arguments.engine)):
        console.print(f"    docker: {IMAGE}")
    else:
        console.print(f"    [yellow]the process engine instead, which isolates nothing: {demo.why}[/]")
    demo.step("enrol this machine as a device", demo.enroll)
    demo.step("start its agent and its gateway", demo.start_device)

    console.print("\n[bold]A model, from the file to the device[/]")
    ref = demo.step("register: check, compute reference answers, upload", demo.register)
    demo.step("sign it with the team's key", lambda: demo.sign(ref))
    rollout = demo.step("roll out, and wait until it is proved and committed", lambda: demo.roll_out(ref))

    sample = digits()[SHOWN]
    answer, headers, first_score = demo.score(sample["pixels"])
    probabilities = answer["probabilities"][0]
    prediction = answer["label"][0]
    console.print("\n[bold]One real digit, posted to the gateway[/]\n")
    console.print(picture(sample["pixels"]) + "\n")
    console.print(f"  it is a [bold]{prediction}[/], {probabilities[prediction]:.1%} sure")
    console.print(
        f"  answered by {headers['x-edgefleet-module']} ({headers['x-edgefleet-served-by']},"
        f" {headers['x-edgefleet-provider']}) in {first_score * 1000:.1f} ms"
    )
    times = _times(rollout, demo.device)
    console.print("  on the device: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items()))
    console.print(f"\n  gateway  http://{HOST}:{demo.gateway_port}/digits/score\n  fleet    {url}")
    console.print(f"  console  {url}/console/  as admin, with the password {demo.password.read_text().strip()}")
    console.print("           (your browser does not know this fleet's authority, and says so)")
    console.print(f"  logs     {demo.folder / 'logs'}")
    if prediction != sample["digit"]:
        raise Failed(f"step failed: score a digit\nit is a {sample['digit']}, the answer was {prediction}")
    return {
        "module": ref,
        "prediction": prediction,
        "expected": sample["digit"],
        "engine": demo.engine,
        "broker": broker.name,
        "provider": headers["x-edgefleet-provider"],
        "seconds": {
            "order_to_committed": round(sum(times.values()), 2),
            "first_score": round(first_score, 4),
            **{f"until_{name}": round(seconds, 2) for name, seconds in times.items()},
        },
    }


def _times(rollout: dict[str, Any], name: str) -> dict[str, float]:
    """Seconds from the rollout's start, and from one phase to the next, by the phase that was reached."""
    device = next(one for one in rollout["devices"] if one["device"] == name)
    times = [("started", rollout["history"][0]["at"]), *device["times"]]
    return {after[0]: after[1] - before[1] for before, after in pairwise(times)}


def _stay(demo: Demo) -> None:
    console.print("\n  It stays up until you press Ctrl-C.")
    while True:
        demo.programs.check()
        time.sleep(_CHECK_S)


def _devices(text: str) -> int:
    if not text.isdigit() or not crowd.LEAST <= int(text) <= crowd.MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {crowd.LEAST} to {crowd.MOST}")
    return int(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop after the first answer")
    parser.add_argument("--broker", choices=["auto", "mosquitto", "amqtt"], default="auto", help="the broker to use")
    parser.add_argument("--engine", choices=["auto", "docker", "process"], default="auto", help="what runs the model")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where all of it goes: an empty folder, or an earlier demo's"
    )
    parser.add_argument(
        "--clean", action="store_true", help="end what an earlier demo left, remove its folder, and end"
    )
    parser.add_argument(
        "--devices",
        type=_devices,
        default=0,
        help=f"simulated devices beside the real one, {crowd.LEAST} to {crowd.MOST}: a good rollout, then a bad one",
    )
    parser.add_argument("--gateway-port", type=int, default=0, help="port of the device's scoring address")
    return parser.parse_args()


if __name__ == "__main__":
    run("demo", main)
