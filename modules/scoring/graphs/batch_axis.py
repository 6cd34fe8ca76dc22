"""Whether requests may share a run, by the graph alone: the names of its axes, its operators, what its answers tell.

What is not certain is no: a run that is shared wrongly gives one caller another's answer, a lone one costs time.
"""

from collections.abc import Sequence
from typing import Final

from modules.scoring.runtime import Tensor

# The length of what they give follows from values, so a row cannot be told to whom it belongs.
_LENGTH_BY_VALUE: Final = frozenset({
    "Compress", "ConcatFromSequence", "NonMaxSuppression", "NonZero", "SequenceAt", "SequenceConstruct",
    "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "SplitToSequence", "Unique",
})  # fmt: skip
# What they run, and how often, follows from values; whole graphs stand in them.
_CONTROL: Final = frozenset({
    "BeamSearch", "GreedySearch", "If", "Loop", "Optional", "OptionalGetElement", "OptionalHasElement", "Sampling",
    "Scan", "WhisperBeamSearch",
})  # fmt: skip
# ONNX Runtime carries their state along the first axis, whichever that was in the request.
_STATE: Final = frozenset({"AttnLSTM", "CumSum", "DynamicQuantizeLSTM", "GRU", "LSTM", "RNN"})
# One row's answer follows from the other rows: their common range, their longest text, their place in the batch.
_NEIGHBOURS: Final = frozenset({
    "CropAndResize", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MaxRoiPool", "ReverseSequence", "RoiAlign",
    "StringSplit", "Tokenizer",
})  # fmt: skip
_REASONS: Final = (
    (_LENGTH_BY_VALUE, "gives as many rows as the values ask for"),
    (_CONTROL, "runs what the values ask for"),
    (_STATE, "carries state from row to row"),
    (_NEIGHBOURS, "looks at one row beside the others"),
)


def why_alone(inputs: Sequence[Tensor], outputs: Sequence[Tensor], operators: frozenset[str]) -> str:
    """Why requests to this graph cannot share a run; empty where they may, if a trial shows the same.

    ``operators`` are all of the graph, those of inner graphs included; none means that they cannot be read.
    """
    shapes = [one.shape for one in (*inputs, *outputs)]
    names = {shape[0] if shape else None for shape in shapes}
    if not inputs or len(names) != 1 or not isinstance(next(iter(names)), str):
        return "its inputs and outputs do not have one first axis in common, by its name"
    if not operators:
        return "its operators cannot be read from this file"
    for group, reason in _REASONS:
        if found := sorted(operators & group):
            return f"its operator {found[0]} {reason}"
    if not any(one.dtype.startswith(("float", "double", "bfloat")) for one in outputs):
        # Labels are the same for many values: that a trial's agree says little.
        return "its answers hold no floats, by which a trial could tell them apart"
    return ""
