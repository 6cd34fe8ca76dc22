"""``python -m modules.scoring``: exit code 0 after SIGTERM, 1 for the command line or address, 3 for what is served."""

import asyncio
import contextlib
import logging
import math
import os
import sys
from functools import partial
from typing import Final

from modules import program
from modules.errors import EdgefleetError
from modules.manifest import Ensemble, Pipeline
from modules.scoring import logs
from modules.scoring.graphs.composites import EnsembleRuntime, PipelineRuntime
from modules.scoring.graphs.onnx import OnnxRuntime
from modules.scoring.models import Entry, Models
from modules.scoring.runtime import ModelRuntime
from modules.scoring.scripts.entry_script import EntryScriptRuntime
from modules.scoring.scripts.worker import WorkerSettings
from modules.scoring.server import listen, report, serve
from modules.scoring.settings import BadCommandLine, Graph, Script, Settings, Several, read

BAD_COMMAND_LINE: Final = 1
CANNOT_SERVE: Final = 3
# Weights are in memory as in the file, and once more where kernels have packed them.
LOADED_PER_FILE: Final = 2


def models_of(settings: Settings) -> Models:
    """What this module serves."""
    version = str(settings.module.version) if settings.module else "1"
    serves = settings.serves
    if isinstance(serves, Several):
        models = Models(memory=serves.memory)
        # Graphs first: what is made of them is loaded after them.
        for name, one in sorted(serves.models.items(), key=lambda item: not isinstance(item[1], Graph)):
            if isinstance(one, Graph):
                size = one.file.stat().st_size * LOADED_PER_FILE if one.file.is_file() else 0
                make = partial(_graph, settings, one)
                models.add(Entry(name, version, make, on_demand=serves.memory > 0, memory=size))
            else:
                models.add(Entry(name, version, partial(_composite, one, models)))
        models.lead(serves.main)
        return models
    make_one = partial(_graph, settings, serves) if isinstance(serves, Graph) else partial(_script, settings, serves)
    models = Models()
    models.add(Entry(settings.name, version, make_one))
    return models


def _composite(one: Pipeline | Ensemble, models: Models) -> ModelRuntime:
    return PipelineRuntime(one, models) if isinstance(one, Pipeline) else EnsembleRuntime(one, models)


def _graph(settings: Settings, graph: Graph) -> ModelRuntime:
    return OnnxRuntime(
        graph.file,
        providers=settings.providers,
        threads=settings.threads,
        timeout_ms=settings.score_timeout_ms,
        queue=settings.limits.max_queue,
        image=graph.image,
        batching=settings.batching,
    )


def _script(settings: Settings, script: Script) -> ModelRuntime:
    azure = settings.azure
    worker = WorkerSettings(
        script=script, providers=settings.providers, threads=max(1, settings.threads // azure.workers),
        log_level=settings.log_level, structured_log=settings.log_format == "json", start_s=azure.worker_timeout_s,
    )  # fmt: skip
    timeout_ms = min(settings.score_timeout_ms, (azure.worker_timeout_s or math.inf) * 1000)
    queue = settings.limits.max_queue
    return EntryScriptRuntime(worker, timeout_ms=timeout_ms, workers=azure.workers, queue=queue)


async def run(settings: Settings) -> None:
    with listen(settings) as listener:
        address = settings.unix or "{}:{}".format(*listener.getsockname()[:2])
        for note in settings.notes:
            logging.getLogger("modules.scoring").warning("%s", note)
        logging.getLogger("modules.scoring").info("listening at %s with %g cores", address, settings.cores)
        try:
            await serve(models_of(settings), settings, listener)
        finally:
            if settings.unix:
                # On a device the folder is sealed once the server is ready, and the agent removes it.
                with contextlib.suppress(PermissionError):
                    settings.unix.unlink(missing_ok=True)


def main() -> int:
    try:
        settings = read(sys.argv[1:], os.environ)
        logs.start(settings.log_level, settings.log_format)
        asyncio.run(run(settings))
    except BadCommandLine as error:
        print(report(error), file=sys.stderr)
        return BAD_COMMAND_LINE
    except EdgefleetError as error:
        print(report(error), file=sys.stderr)
        return CANNOT_SERVE
    return 0


if __name__ == "__main__":
    program.run("edgefleet-scoring", main)
