"""What stands beside a package's Dockerfile, for whoever has the folder and nothing else."""

from typing import Final

from fleet.client.environments.package_context import DATA, PORT, Application, Base
from modules.triggers.settings import FOLDER

_OPEN: Final = """\
This folder is one model with all that serves it. Docker builds it without a network, and nothing else is needed:

    docker build --tag {tag} .

The Dockerfile begins with FROM {image}: Docker must have that image, or be able to pull it{login}.
On a machine without a network: docker save {image} elsewhere, docker load here.

Files
    Dockerfile             what is built
    azureml-app/           the models and the entry script
    model_config_map.json  which models these are
    wheels/, packages/     every Python package, by digest in packages/lock.txt
"""
_SERVES: Final = """
Serve
    docker run --rm -p 6789:{port} {tag}
    curl http://localhost:6789/                 says Healthy
    curl http://localhost:6789/swagger.json     says what /score takes
    curl -H 'Content-Type: application/json' -d @request.json http://localhost:6789/score

Nobody is asked for a key. Where others reach the port, mount a file of keys and name it in EDGEFLEET_ACCESS_FILE, and a
certificate in EDGEFLEET_TLS_CERTIFICATE and EDGEFLEET_TLS_KEY.
"""
_FOLDER: Final = """
Watch a folder
    docker run -d --restart on-failure --user "$(id -u):$(id -g)" -v "$PWD/data:{data}" {tag}

Each file {input} below data/ is scored once, and its answer appears whole as {output}. Write an input elsewhere
and move it there, or write it in place: one is read once nothing has changed in it for EDGEFLEET_TRIGGER_SETTLE_S
seconds (1), and one that is no JSON yet is waited for, for half a minute. What the model cannot answer is moved to
data/poison/, with the reason beside it; move it back, and it is tried again. What was done is remembered in
data/.edgefleet/, so a container that is started again goes on where it was; one container watches one folder.
"""
_TOPIC: Final = """
Answer messages
    docker run -d --restart on-failure -e EDGEFLEET_TRIGGER_BROKER=mqtts://user@broker.example:8883 \\
        -v "$PWD/password:/run/password:ro" -e EDGEFLEET_TRIGGER_PASSWORD_FILE=/run/password \\
        -v "$PWD/ca.pem:/run/ca.pem:ro" -e EDGEFLEET_TRIGGER_CA=/run/ca.pem {tag}

Each message at the topic {input} is scored and its answer published at {output}, with the message's correlation data;
only then is it acknowledged, so it is answered at least once. What the model cannot answer goes to {output}/poison,
with the reason, after three tries. EDGEFLEET_TRIGGER_CERTIFICATE and EDGEFLEET_TRIGGER_KEY are a client's certificate.
EDGEFLEET_TRIGGER_CLIENT names the session that the broker keeps for a week (here {client}): two containers need two
names, and a topic that is divided among them ($share/GROUP/TOPIC in EDGEFLEET_TRIGGER_INPUT). The broker speaks MQTT 5.
"""


def readme(tag: str, base: Base, application: Application) -> str:
    """The text."""
    login = f" (first: docker login {base.registry.address})" if base.registry.username else ""
    told = {
        "tag": tag, "image": base.image, "login": login, "port": PORT, "data": DATA,
        "input": application.trigger.get("EDGEFLEET_TRIGGER_INPUT", ""),
        "output": application.trigger.get("EDGEFLEET_TRIGGER_OUTPUT", ""),
        "client": application.trigger.get("EDGEFLEET_TRIGGER_CLIENT", ""),
    }  # fmt: skip
    kind = application.trigger.get("EDGEFLEET_TRIGGER")
    rest = _SERVES if kind is None else _FOLDER if kind == FOLDER else _TOPIC
    return (_OPEN + rest).format_map(told)
