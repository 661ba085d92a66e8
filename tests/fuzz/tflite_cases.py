"""TensorFlow Lite files that are flatbuffers and still no models: tensors, operators and signatures that lie, and offsets that
lead elsewhere.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fuzz.bytes_cases import Case
from fuzz.drawing import drawn

__all__ = ["tflite_cases"]

_NUMBERS = (0, 1, -1, 2, 7, 127, 2**15, 2**31 - 1, -(2**31))
_NAMES = (b"", b"x", b"a" * 5000, b"__import__('os').system('touch pwned')", b"\xff\xfe", b"../x", b"\0", b"a:0;b")


def tflite_cases(seed: Path, random_: random.Random) -> Iterator[Case]:
    """Without end."""
    return drawn(seed, random_, _CHANGES, _build)


def _build(seed: Path, change: Callable, state: int) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        from converter.tflite.flatbuffer import read, write

        random_, path = random.Random(state), folder / seed.name
        if change in _OF_BYTES:
            data = bytearray(seed.read_bytes())
            change(data, random_)
            path.write_bytes(data)
            return path
        model = read(seed.read_bytes())
        for _ in range(random_.choice((1, 1, 2))):
            change(model, random_)
        write(path, model)
        return path

    return build


def _offset(data: bytearray, random_: random.Random) -> None:
    """A word that is an offset, a length or a number: to itself, to the start, beyond the end, or a large one."""
    place = 4 * random_.randrange(len(data) // 4)
    value = random_.choice(
        (0, 4, len(data) - place, len(data), 2**31 - 1, 2**32 - 1, 2**32 - place, random_.randrange(len(data)))
    )
    data[place : place + 4] = struct.pack("<I", value % 2**32)


def _table(data: bytearray, random_: random.Random) -> None:
    """Two bytes of a table's own table of fields."""
    place = 2 * random_.randrange(len(data) // 2)
    data[place : place + 2] = struct.pack("<H", random_.choice((0, 1, 3, 4, 6, 255, 65535, random_.randrange(200))))


def _subgraph(model, random_: random.Random):
    return random_.choice(model.subgraphs)


def _tensor(model, random_: random.Random):
    return random_.choice([tensor for graph in model.subgraphs for tensor in graph.tensors])


def _one(model, random_: random.Random):
    return random_.choice([operator for graph in model.subgraphs for operator in graph.operators])


def _shape(model, random_: random.Random) -> None:
    tensor = _tensor(model, random_)
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    if shape and random_.random() < 0.7:
        shape[random_.randrange(len(shape))] = random_.choice(_NUMBERS)
    else:
        shape += [random_.choice(_NUMBERS)] * random_.choice((1, 9))
    tensor.shape = np.array(shape, np.int32)
    if random_.random() < 0.4:
        tensor.shapeSignature = np.array([random_.choice((-1, *_NUMBERS)) for _ in shape], np.int32)


def _type(model, random_: random.Random) -> None:
    _tensor(model, random_).type = random_.choice((*range(20), 127, -1))


def _buffer(model, random_: random.Random) -> None:
    _tensor(model, random_).buffer = random_.choice((0, 1, len(model.buffers), 2**31, 2**32 - 1))


def _buffer_bytes(model, random_: random.Random) -> None:
    buffer = random_.choice(model.buffers)
    data = b"" if buffer.data is None else bytes(buffer.data)
    buffer.data = random_.choice((data[: len(data) // 2], data + b"\xff" * 5, b"\xff" * len(data), b""))


def _buffer_behind(model, random_: random.Random) -> None:
    """Weights that lie behind the flatbuffer, as in files above 2 GB."""
    buffer = random_.choice(model.buffers)
    buffer.offset, buffer.size = random_.choice((2, 100, 2**31, 2**63)), random_.choice((1, 48, 2**31, 2**63))


def _edge(model, random_: random.Random) -> None:
    graph, kind = _subgraph(model, random_), random_.randrange(3)
    owner = graph if kind == 2 else random_.choice(graph.operators) if graph.operators else graph
    field = "inputs" if random_.random() < 0.6 else "outputs"
    places = [] if getattr(owner, field) is None else [int(place) for place in getattr(owner, field)]
    if places and random_.random() < 0.8:
        places[random_.randrange(len(places))] = random_.choice((-1, -2, 0, 1, len(graph.tensors), 2**31 - 1, *places))
    else:
        places = places[:-1] if random_.random() < 0.5 else [*places, random_.choice((-1, 0, 1))]
    setattr(owner, field, np.array(places, np.int32))


def _circle(model, random_: random.Random) -> None:
    graph = _subgraph(model, random_)
    if len(graph.operators) > 1:
        graph.operators[0].inputs = np.array([*graph.operators[-1].outputs, *graph.operators[0].inputs[1:]], np.int32)


def _order(model, random_: random.Random) -> None:
    random_.shuffle(_subgraph(model, random_).operators)


def _operator(model, random_: random.Random) -> None:
    code = random_.choice(model.operatorCodes)
    code.builtinCode = random_.choice((*range(0, 210, 7), 32, 999, -1))
    code.deprecatedBuiltinCode = min(max(code.builtinCode, -128), 127)
    if random_.random() < 0.2:
        code.customCode = random_.choice(_NAMES)


def _code(model, random_: random.Random) -> None:
    _one(model, random_).opcodeIndex = random_.choice((0, 1, len(model.operatorCodes), 2**32 - 1))


def _options(model, random_: random.Random) -> None:
    operator = _one(model, random_)
    options = operator.builtinOptions
    if options is None or random_.random() < 0.2:
        operator.builtinOptions = random_.choice(
            [other.builtinOptions for graph in model.subgraphs for other in graph.operators]
        )
        return
    numbers = [name for name, value in vars(options).items() if isinstance(value, int) and not isinstance(value, bool)]
    if numbers:
        setattr(options, random_.choice(numbers), random_.choice((0, 1, 2, 3, 5, 100)))


def _quantization(model, random_: random.Random) -> None:
    quantized = [t for g in model.subgraphs for t in g.tensors if t.quantization is not None]
    if not quantized:
        return _type(model, random_)
    quantization = random_.choice(quantized).quantization
    kind = random_.randrange(4)
    if kind == 0:
        quantization.scale = np.array([random_.choice((0, -1, np.nan, np.inf, 1e-45, 1e38))], np.float32)
    elif kind == 1:
        quantization.zeroPoint = np.array([random_.choice((-1, 300, 2**62, -(2**63)))], np.int64)
    elif kind == 2:
        quantization.quantizedDimension = random_.choice(_NUMBERS)
    else:
        quantization.scale = np.ones(random_.choice((0, 2, 1000)), np.float32)
    return None


def _names(model, random_: random.Random) -> None:
    _tensor(model, random_).name = random_.choice(_NAMES)


def _signature(model, random_: random.Random) -> None:
    if not model.signatureDefs:
        return
    signature = model.signatureDefs[0]
    entry = random_.choice([*signature.inputs, *signature.outputs])
    kind = random_.randrange(4)
    if kind == 0:
        entry.tensorIndex = random_.choice((0, 2, 2**31, 2**32 - 1))
    elif kind == 1:
        entry.name = random_.choice(_NAMES)
    elif kind == 2:
        signature.subgraphIndex = random_.choice((1, 2**32 - 1))
    else:
        signature.outputs = signature.outputs * 2


def _graphs(model, random_: random.Random) -> None:
    if random_.random() < 0.5:
        model.subgraphs = model.subgraphs * random_.choice((2, 50))
    else:
        model.subgraphs = []


_OF_BYTES = (_offset, _table)
_CHANGES = (
    *(_offset, _offset, _offset, _table, _table, _shape, _shape, _type, _buffer, _buffer_bytes, _buffer_behind, _edge),
    *(_edge, _circle, _order, _operator, _code, _options, _quantization, _names, _signature, _graphs),
)
