"""What error messages tell a user to write can be written there: the format in whose code they stand takes the parameter."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from converter.errors import ParameterError
from converter.planning.parameters import EXPORT_PARAMETERS, IMPORT_PARAMETERS, PARAMETERS, normalize
from converter.planning.planner import parameters_of

TF = ("keras", "savedmodel", "checkpoint", "protobuf")
ALL = (*TF, "pytorch")
GRAPHS = ("savedmodel", "checkpoint", "protobuf")
# Whose code a file or a function is: source formats, and the targets that it writes (none: it reads sources). First match.
WHOSE = {
    "scripts/legacy/graph_files.py:_refuse_signature": (("savedmodel",), ()),
    "scripts/legacy/graph_files.py:*": (GRAPHS, ()),
    "scripts/legacy/keras_files.py:*": (("keras",), ()),
    "scripts/legacy/torch_files.py:*": (("pytorch",), ()),
    "scripts/legacy/network_script.py:*": (("keras", "pytorch"), ()),
    "scripts/legacy/backends.py:*": (("pytorch",), ("h5", "hdf5")),
    "scripts/legacy_import.py:*": (ALL, ()),
    "scripts/export_keras.py:*": (("pytorch",), ("h5", "hdf5", "keras")),
    "workflow/converter/importing/network_script.py:*": (("keras", "pytorch"), ()),
    "workflow/converter/importing/installed.py:*": (("pytorch",), ()),
    "workflow/converter/torch/huggingface/config.py:configuration": (
        ("pytorch",),
        (),
    ),  # its weights in a script of one's own
    "workflow/converter/torch/huggingface/*": (("huggingface",), ()),
    "workflow/converter/importing/*": (ALL, ()),
    "workflow/converter/legacy/backends.py:*": (("keras",), ("onnx",)),
    "workflow/converter/legacy/source.py:import_pytorch": (("pytorch",), ()),
    "workflow/converter/legacy/source.py:call": (ALL, ()),
    "workflow/converter/legacy/source.py:*": (TF, ()),
    "workflow/converter/tf/sources/keras_*": (("keras",), ()),
    "workflow/converter/tf/sources/network_script.py:*": (("keras",), ()),
    "workflow/converter/tf/sources/saved_model_*": (("savedmodel",), ()),
    "workflow/converter/tf/sources/signature_*": (("savedmodel",), ()),
    "workflow/converter/tf/sources/endpoints.py:*": (GRAPHS, ()),
    "workflow/converter/tf/sources/graph_source.py:*": (GRAPHS, ()),
    "workflow/converter/tf/sources/training_flags.py:*": (GRAPHS, ()),
    "workflow/converter/tf/trust/saved_model_trust.py:*": (("savedmodel",), ()),
    "workflow/converter/tf/graph/graph_bytes.py:*": (("keras", "savedmodel", "checkpoint"), ("pb",)),
    "workflow/converter/tf/onnx/*": (TF, ("onnx",)),
    "workflow/converter/tf/tflite/*": (TF, ("tflite",)),
    "workflow/converter/tf/*": (TF, ()),
    "workflow/converter/torch/onnx/*": (("pytorch",), ("onnx",)),
    "workflow/converter/torch/tflite/*": (("pytorch",), ("tflite",)),
    "workflow/converter/torch/*": (("pytorch",), ()),
    "workflow/converter/torch_to_keras/*": (("pytorch",), ("h5", "keras")),
    "workflow/converter/onnx/constants.py:*": (("onnx",), ()),
    "workflow/converter/onnx/containers.py:*": (("onnx",), ()),
    "workflow/converter/onnx/cut.py:*": (("onnx",), ()),
    "workflow/converter/onnx/core/site.py:*": (("onnx", "tflite"), ("onnx",)),
    "workflow/converter/onnx/export.py:*": (("onnx", "tflite"), ("onnx",)),
    "workflow/converter/onnx/opset.py:*": (("onnx", "tflite"), ("onnx",)),
    "workflow/converter/onnx/interface.py:*": (("onnx",), ()),
    "workflow/converter/onnx_to_torch/*": (("onnx", "tflite"), ()),
    "workflow/converter/quantization/onnx/*": (ALL, ("onnx",)),
    "workflow/converter/quantization/tflite/*": (ALL, ("tflite",)),
    "workflow/converter/quantization/*": (ALL, ("onnx", "tflite")),
    "workflow/converter/tflite/*": (ALL, ("tflite",)),
    "workflow/converter/micro/*": (ALL, ("cc",)),
    "workflow/converter/openvino/*": (ALL, ("xml",)),
    "workflow/converter/devices/*": (ALL, ("onnx", "tflite", "cc")),
    "workflow/converter/verification/tflite.py:*": (ALL, ("tflite",)),
    "workflow/converter/hub/*": (ALL, ()),
    "workflow/converter/wording.py:*": (ALL, ()),
    "workflow/converter/evidence/*": (ALL, ()),
}
# The configuration, commands and the run: they speak of parameters as such.
NOBODYS = (
    "planning",
    "commands",
    "running",
    "publishing",
    "safety",
    "aup",
    "scripts/publish.py",
    "scripts/make_env",
    "scripts/install_toolchain.py",
)
# Words of plain English too: parameters where a value, a key or a backtick follows.
PLAIN = {"batch", "constants", "frozen", "skip", "verify", "trusted", "quantization", "backend", "device"}


def mentions(text: str) -> set[str]:
    found = set()
    for name in PARAMETERS:
        after = r"(?=[:.]\w|: |`)" if name in PLAIN else r"(?!\w)"
        if re.search(rf"(?<![\w.\-/])(?<!not ){name}{after}", text):
            found.add(name)
    return found


def messages(path: Path) -> Iterator[tuple[str, str]]:
    """The outermost function or name that each text of a file stands in, and the text, "{}" for what is formatted into it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for statement in tree.body:
        name = getattr(statement, "name", "")
        owners = [node for node in ast.walk(statement) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        documents = {id(owner.body[0].value) for owner in owners if isinstance(owner.body[0], ast.Expr)}
        inside = {id(part) for node in ast.walk(statement) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(statement):
            if isinstance(node, ast.Expr) and statement is node:
                break  # the module's docstring
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                yield name, "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents | inside:
                yield name, node.value


def whose(place: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    return next((owner for pattern, owner in WHOSE.items() if fnmatch(place, pattern)), None)


REMEDIES = [
    (f"{path.relative_to(ROOT)}:{name}", text, sorted(found))
    for folder in ("workflow", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not any(part in str(path.relative_to(ROOT)) for part in NOBODYS)
    for name, text in messages(path)
    if " " in text and (found := mentions(text))
]


def test_many_messages_are_found():
    assert len(REMEDIES) > 80
    assert {"input_nodes", "toolchain", "quantization", "onnx_opset", "network_script", "verify"} <= {
        name for _, _, found in REMEDIES for name in found
    }


@pytest.mark.parametrize(("place", "text", "found"), REMEDIES, ids=[f"{i}-{p}" for i, (p, *_) in enumerate(REMEDIES)])
def test_the_format_takes_the_parameters_that_its_messages_name(place, text, found):
    owner = whose(place)
    assert owner is not None, f"{place} names {found} in {text!r}: say above whose code it is"
    formats, extensions = owner
    for name in found:
        if name == "verify" or PARAMETERS[name].stage == "job":
            continue
        if name in IMPORT_PARAMETERS:
            refused = [format for format in formats if name not in parameters_of(format, "onnx")]
            assert not refused, f"{place} names {name}, which {refused} sources do not take: {text!r}"
        if name in EXPORT_PARAMETERS:
            assert extensions, f"{place} reads sources for any target, and names {name}: {text!r}"
            refused = [extension for extension in extensions if name not in parameters_of(formats[0], extension)]
            assert not refused, f"{place} names {name}, which {refused} files do not take: {text!r}"


ADVICE = re.compile(
    r"(?:write|set|try) `?(?:quantization\.(?P<key>\w+):? (?P<value>\w+)"
    r"|(?P<name>quantization|toolchain|trusted|frozen): (?P<text>\{\w[^{}]*\}|[\w.]+))"
)


def test_the_values_that_messages_recommend_are_taken():
    checked = 0
    for place, text, _ in REMEDIES:
        for advice in ADVICE.finditer(text):
            name = advice["name"] or "quantization"
            value = yaml.safe_load(advice["text"]) if advice["name"] else {advice["key"]: advice["value"]}
            if advice["key"] in ("load", "keep_float"):
                continue  # any path, any layer
            try:
                normalize(name, value)
            except ParameterError as error:
                pytest.fail(f"{place}: {error} ({text!r})")
            checked += 1
    assert checked > 5
