"""The mappings in hub.json by key. What a key is missing from was not known, or belongs to the other framework."""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = ["Cost", "Extra", "Failure", "SourceFile"]


class SourceFile(TypedDict, total=False):
    """What was imported. bytes: its size, of all its files; sha256: of them too, in hexadecimal digits.

    stat: name, size and modification time in nanoseconds of each file, by which an unchanged source is known again.
    """

    path: str
    format: str
    sha256: str | None
    bytes: int | None
    stat: list[list[str | int]]


class Failure(TypedDict):
    """Why a step failed. kind: a class of converter.errors, or "InternalError"; message: one sentence for people."""

    kind: str
    message: str


class Cost(TypedDict, total=False):
    """What a step took. peak_memory_mb: of its largest process, resident."""

    name: str
    cpu_seconds: float
    wall_seconds: float
    peak_memory_mb: int


class Extra(TypedDict, total=False):
    """What only the exports of one framework ask for.

    TensorFlow. variables: names of the weights that were variables, in the source's order; vocabulary: by input, how many
    numbers of words or classes it takes; resources: nodes of the graph that only its own runtime can fill.

    PyTorch. form: how the model is kept, "exported" in program.pt2 or "torchscript" in module.pt; module: the name of its class;
    kind: how it was loaded, "module", "torchscript" or "program"; computes_in: its
    narrow dtype, where it computes in one.

    ONNX. kind: "onnx" or "tflite", of the source's file; channels_last: whether its images are so already; containers: by
    name of an input or output that is no tensor "sequence" or "optional"; lengths: how many tensors each of them holds in
    the reference.
    """

    variables: list[str]
    vocabulary: dict[str, int]
    resources: list[str]
    form: Literal["exported", "torchscript"]
    module: str
    kind: str
    computes_in: str
    channels_last: bool
    containers: dict[str, str]
    lengths: dict[str, int]
