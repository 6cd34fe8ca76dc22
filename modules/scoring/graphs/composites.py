"""Models made of other models of the module: one after another, or all of them at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import numpy as np

from modules.errors import Invalid
from modules.manifest import Ensemble, Pipeline
from modules.scoring.graphs import bfloat16, bodies, inputs, output_look
from modules.scoring.graphs.shared_run import Feeds, Values
from modules.scoring.graphs.tensors import Array
from modules.scoring.metrics import Figures
from modules.scoring.models import Models, Tensors
from modules.scoring.runtime import Answer, BadInput, Metadata, Request, RunFailed, Tensor

log = logging.getLogger(__name__)

T = TypeVar("T")


class _Composite:
    """What both have in common: they hold no graph, and are ready once they know what their members take."""

    def __init__(self, members: tuple[str, ...], models: Models) -> None:
        self._members = members
        self._models = models
        self._ready = False
        self.figures = Figures()
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self._example: dict[str, Any] | None = None

    @property
    def ready(self) -> bool:
        return self._ready and all(self._models[name].available for name in self._members)

    async def load(self) -> None:
        members, examples = [], {}
        for name in self._members:
            members.append(await self._member(name))
            # Now, since another member may take its place in memory.
            examples[name] = self._models[name].runtime.example()
        self._declare(members)
        self._example = await self._tried(self._made_example(examples))
        self._ready = True

    def score(self, request: Request) -> Awaitable[Answer]:
        decode, encode = bodies.codec(request, self.inputs, self.outputs)
        return self.infer(len(request.body), decode, output_look.seen(self.figures.answers, encode))

    def infer(self, size: int, decode: Callable[[], Feeds], encode: Callable[[Values, float], T]) -> Awaitable[T]:
        # A task, so that what has begun is seen to its end, or given up, as one.
        return asyncio.ensure_future(self._infer(size, decode, encode))

    def metadata(self) -> Metadata:
        found = [self._models[name].runtime.metadata() for name in self._members]
        in_use = {one.provider_in_use for one in found if one.provider_in_use}
        return Metadata(
            kind=self.kind, platform=f"edgefleet_{self.kind}", inputs=self.inputs, outputs=self.outputs,
            providers_requested=found[0].providers_requested, provider_in_use=", ".join(sorted(in_use)) or None,
            provider_reason="" if in_use else "none of its models is in memory", onnxruntime=found[0].onnxruntime,
        )  # fmt: skip

    def example(self) -> dict[str, Any] | None:
        return self._example

    async def close(self) -> None:
        self._ready = False

    kind = ""

    def _declare(self, members: list[Tensors]) -> None:
        raise NotImplementedError

    def _made_example(self, examples: dict[str, dict[str, Any] | None]) -> dict[str, Any] | None:
        """Made of the members' own, which are given by their names."""
        raise NotImplementedError

    async def _run(self, feeds: Feeds) -> Values:
        raise NotImplementedError

    async def _tried(self, example: dict[str, Any] | None) -> dict[str, Any] | None:
        """The example if it runs through all members."""
        if example is None:
            return None
        try:
            feeds: dict[str, Any] = {one.name: inputs.read(example[one.name], one) for one in self.inputs}
            await self._run(feeds)
        except (BadInput, RunFailed) as error:
            log.warning("no example could be made for the %s: %s", self.kind, error)
            return None
        return example

    async def _infer(self, size: int, decode: Callable[[], Feeds], encode: Callable[[Values, float], T]) -> T:
        del size
        loop = asyncio.get_running_loop()
        started = loop.time()
        values = await self._run(decode())
        return encode(values, (loop.time() - started) * 1000)

    async def _member(self, name: str) -> Tensors:
        found = self._models.use(self._models[name])
        return await found if isinstance(found, Awaitable) else found

    async def _ask(self, name: str, feeds: Feeds) -> dict[str, Any]:
        """A member's outputs by name."""
        member = await self._member(name)
        for tensor in member.inputs:
            have = feeds[tensor.name]
            if isinstance(have, np.ndarray) and bfloat16.carrier(tensor.dtype) not in {have.dtype.name, "string"}:
                raise RunFailed(f"it takes {tensor.dtype}, and gets {have.dtype.name}", element=f"{name}.{tensor.name}")
        # Its run is small beside a request's own, whose size says nothing about it: 0 lets a quick one run at once.
        values = member.infer(0, lambda: feeds, lambda values, _: values)
        values = await values if isinstance(values, Awaitable) else values
        return {tensor.name: value for tensor, value in zip(member.outputs, values, strict=True)}


class PipelineRuntime(_Composite):
    kind = "pipeline"

    def __init__(self, pipeline: Pipeline, models: Models) -> None:
        super().__init__(tuple(step.model for step in pipeline.steps), models)
        self._steps = pipeline.steps

    def _declare(self, members: list[Tensors]) -> None:
        inputs: dict[str, Tensor] = {}
        given: dict[str, dict[str, Tensor]] = {}
        for step, member in zip(self._steps, members, strict=True):
            element = f"pipeline step {step.model}"
            if {one.name for one in member.inputs} != set(step.inputs):
                takes = ", ".join(one.name for one in member.inputs)
                raise Invalid(f"it takes {takes}, got {', '.join(step.inputs)}", element=element)
            for tensor in member.inputs:
                model, _, name = step.inputs[tensor.name].partition(".")
                if model == "input":
                    inputs.setdefault(name, msgspec.structs.replace(tensor, name=name))
                elif name not in given[model]:
                    raise Invalid(f"{model} gives no {name}, only {', '.join(given[model])}", element=element)
                elif given[model][name].dtype != tensor.dtype:
                    had = given[model][name].dtype
                    raise Invalid(f"{tensor.name} is {tensor.dtype}, and {model} gives {had}", element=element)
            given[step.model] = {one.name: one for one in member.outputs}
        self.inputs, self.outputs = tuple(inputs.values()), members[-1].outputs

    def _made_example(self, examples: dict[str, dict[str, Any] | None]) -> dict[str, Any] | None:
        found: dict[str, Any] = {}
        for step in self._steps:
            for name, source in step.inputs.items():
                model, _, given = source.partition(".")
                example = examples[step.model]
                if model == "input" and example is not None:
                    found.setdefault(given, example[name])
        return found if found.keys() == {one.name for one in self.inputs} else None

    async def _run(self, feeds: Feeds) -> Values:
        found: dict[str, dict[str, Any]] = {"input": dict(feeds)}
        for step in self._steps:
            taken = {}
            for name, source in step.inputs.items():
                model, _, output = source.partition(".")
                taken[name] = found[model][output]
            try:
                found[step.model] = await self._ask(step.model, taken)
            except BadInput as error:
                if step is self._steps[0]:
                    raise
                raise RunFailed(f"it was given what it does not take: {error}", element=step.model) from error
        return list(found[self._steps[-1].model].values())


class EnsembleRuntime(_Composite):
    kind = "ensemble"

    def __init__(self, ensemble: Ensemble, models: Models) -> None:
        super().__init__(ensemble.models, models)
        weights = np.array(ensemble.weights or (1.0,) * len(ensemble.models))
        self._weights = weights / weights.sum()

    def _declare(self, members: list[Tensors]) -> None:
        first = members[0]
        for name, member in zip(self._members, members, strict=True):
            if (member.inputs, [_form(one) for one in member.outputs]) != (
                first.inputs,
                [_form(one) for one in first.outputs],
            ):
                raise Invalid(f"it takes or gives something else than {self._members[0]}", element=f"ensemble: {name}")
        for tensor in first.outputs:
            if not tensor.dtype.startswith("float"):
                raise Invalid(
                    f"its output {tensor.name} is {tensor.dtype}: only floats have an average", element="ensemble"
                )
        self.inputs, self.outputs = first.inputs, first.outputs

    def _made_example(self, examples: dict[str, dict[str, Any] | None]) -> dict[str, Any] | None:
        return examples[self._members[0]]

    async def _run(self, feeds: Feeds) -> Values:
        answers = await asyncio.gather(*(self._ask(name, feeds) for name in self._members))
        return [self._average([one[tensor.name] for one in answers], tensor) for tensor in self.outputs]

    def _average(self, values: list[Array], tensor: Tensor) -> Array:
        if len({one.shape for one in values}) > 1:
            # NumPy would stretch one row to as many as another model gave.
            shapes = ", ".join(f"{name} {list(one.shape)}" for name, one in zip(self._members, values, strict=True))
            raise RunFailed(f"the models answered with other shapes: {shapes}", element=tensor.name)
        total: Array = sum(weight * one for weight, one in zip(self._weights, values, strict=True))
        return total.astype(tensor.dtype)


def _form(tensor: Tensor) -> tuple[str, str]:
    return tensor.name, tensor.dtype
