"""A source read by an old framework: its environment hands over plain files, and all else is done here.

scripts/legacy_import.py runs in the environment, twice: once to hand over the frozen graph (or TorchScript), from which the
hub is made as from any such file, and once to compute the reference, so that what is compared with is the output of the
framework that wrote the source, not ours of what it handed over.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter import errors
from converter.contracts import ImportSpec
from converter.errors import ConverterError, ParameterError, UnsupportedError
from converter.hub.hub import Hub, Run
from converter.hub.informative import write_evidence
from converter.importing.user_code import active
from converter.installation import SCRIPTS
from converter.planning.toolchains import ensure

if TYPE_CHECKING:
    from converter.tf.sources.graph_source import GraphSource

__all__ = ["call", "import_pytorch", "import_tensorflow", "read_arrays", "source_request", "write_arrays"]

_NOT_INHERITED = ("PYTHON", "TF_", "TF2_", "KERAS_")


def import_tensorflow(spec: ImportSpec, out: Path) -> Hub:
    """The hub of a Keras file, SavedModel, checkpoint or frozen graph that `spec.toolchain` reads."""
    with tempfile.TemporaryDirectory(prefix="converter-legacy-") as folder:
        request = source_request(spec)
        answer = call(spec.toolchain, {**request, "action": "import"}, Path(folder))
        if spec.format in ("keras", "savedmodel"):
            answer["inputs"] = _chosen("input_nodes", spec.input_nodes, answer["inputs"])
            answer["outputs"] = _chosen("output_nodes", spec.output_nodes, answer["outputs"])
        hub, source = _hub_of_graph(spec, out, Path(folder), answer)
        request["feeds"] = [entry.tensor for entry in source.inputs]
        request["fetches"] = [entry.tensor for entry in source.outputs]
        request["constants"] = {f"{name}:0": value.tolist() for name, value in source.constants.items()}
        _replace_reference(spec, hub, request, Path(folder))
    hub.versions = _versions(spec, answer)
    return hub


def _chosen(parameter: str, wanted: Sequence[str], entries: list[list[str]]) -> list[list[str]]:
    """The (name, tensor) pairs that the user named, by either, in the user's order. All where nothing is named."""
    chosen = []
    for name in wanted:
        found = [entry for entry in entries if name in (entry[0], entry[1], entry[1].removesuffix(":0"))]
        if not found:
            known = ", ".join(f"{entry[0]} ({entry[1]})" for entry in entries)
            raise ParameterError(f"{parameter}: {name} is none of the model's: write names of {known}, or leave it out")
        chosen.append(found[0])
    if parameter == "input_nodes" and wanted and len(chosen) < len(entries):
        raise ParameterError(f"input_nodes: the model has {len(entries)} inputs: name all of them, or leave it out")
    return chosen or entries


def _hub_of_graph(spec: ImportSpec, out: Path, folder: Path, answer: dict) -> tuple[Hub, GraphSource]:
    """The hub of the frozen graph in `folder`, and what in it is fed and fetched. TensorFlow starts up only now."""
    from converter.tf.graph.graph import clean
    from converter.tf.sources.frozen_graph import hub_of_frozen_graph
    from converter.tf.sources.graph_file import read_graph_file
    from converter.tf.sources.graph_source import known_part, unknown_operators

    inputs, outputs = ([tensor for _, tensor in answer[key]] for key in ("inputs", "outputs"))
    graph_def = known_part(read_graph_file(folder / "graph.pb"), inputs, outputs)
    clean(graph_def)
    if unknown := unknown_operators(graph_def):
        raise UnsupportedError(
            f"{spec.source}: the outputs depend on operators that only TensorFlow {answer['versions']['tensorflow']} has "
            f"({', '.join(unknown[:6])}), and no target format has them: give input_nodes and output_nodes without them"
        )
    plain = replace(spec, input_nodes=[], output_nodes=[])
    called = {tensor: name for key in ("inputs", "outputs") for name, tensor in answer[key]}
    notes = [_note(spec, answer)]
    return hub_of_frozen_graph(plain, graph_def, out, endpoints=(inputs, outputs), called=called, notes=notes)


def import_pytorch(spec: ImportSpec, out: Path, import_model: Callable[[ImportSpec, Path], Hub]) -> Hub:
    """The hub of a PyTorch file that `spec.toolchain` reads; `import_model` makes hubs of TorchScript files."""
    from converter.torch.sources.archives import checked_kind, refuse_unread

    if checked_kind(spec.source, spec.trusted) == "safetensors":
        raise ParameterError(f"toolchain: {spec.toolchain} cannot read {spec.source}: leave toolchain out")
    if not spec.trusted:
        refuse_unread(spec.source)
    with tempfile.TemporaryDirectory(prefix="converter-legacy-") as folder:
        request = source_request(spec)
        answer = call(spec.toolchain, {**request, "action": "import"}, Path(folder))
        traced = replace(
            spec,
            source=Path(folder, "module.pt"),
            toolchain="default",
            network_script=None,
            network_name=None,
            network_args=None,
            state_dict_key=None,
        )
        try:
            hub = import_model(traced, out)
        except ConverterError as error:
            raise type(error)(str(error).replace(str(traced.source), str(spec.source))) from error
        hub.notes = [_note(spec, answer), *(note.replace(str(traced.source), str(spec.source)) for note in hub.notes)]
        _replace_reference(spec, hub, request, Path(folder))
    hub.versions = _versions(spec, answer)
    return hub


def _note(spec: ImportSpec, answer: dict) -> str:
    read = ", ".join(f"{name} {version}" for name, version in sorted(answer["versions"].items()))
    return f"read in the environment of toolchain {spec.toolchain} ({read})"


def _versions(spec: ImportSpec, answer: dict) -> dict[str, str]:
    return {f"{spec.toolchain}/{name}": version for name, version in answer["versions"].items()}


def source_request(spec: ImportSpec) -> dict:
    """What scripts/legacy_import.py needs to load the source."""
    script = spec.network_script
    if spec.format == "pytorch" and any(shape.name for shape in spec.input_shape or []):
        raise ParameterError("input_shape: toolchain takes shapes in the order of forward's arguments, without names")
    shapes = None if spec.input_shape is None else [[list(shape.dims), shape.dtype] for shape in spec.input_shape]
    return {
        "source": os.path.abspath(spec.source),
        "format": spec.format,
        "input_nodes": spec.input_nodes,
        "output_nodes": spec.output_nodes,
        "input_shape": shapes,
        "network_script": None if script is None else os.path.abspath(script),
        "network_name": spec.network_name,
        "network_args": spec.network_args,
        "state_dict_key": spec.state_dict_key,
        "savedmodel_tag": spec.savedmodel_tag,
        "savedmodel_signature": spec.savedmodel_signature,
        "trusted": spec.trusted,
        "constants": {},
    }


def call(toolchain: str, request: dict, folder: Path) -> dict:
    """Run one request in the environment, which is built first if need be; `folder` receives its files. Returns its answer.

    Raises what it answers as an error, under the same name, or SourceError when it died.
    """
    interpreter = ensure(toolchain)
    (folder / "request.json").write_text(json.dumps({**request, "folder": str(folder)}), encoding="utf-8")
    (folder / "answer.json").unlink(missing_ok=True)
    # Today's TensorFlow sets TF2_BEHAVIOR when it is imported; TensorFlow 1.15 obeys it, and puts Keras models into
    # another graph than its session's.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    environ |= {
        "PATH": os.pathsep.join([str(interpreter.parent), os.environ.get("PATH", "")]),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    command = [str(interpreter), "-W", "ignore", str(SCRIPTS / "legacy_import.py"), str(folder / "request.json")]
    # The working directory stays: a network_script may read files beside it by relative paths.
    run = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = run.stdout.decode("utf-8", "replace")
    sys.stderr.write(output)
    if run.returncode == -signal.SIGKILL or (run.returncode and "MemoryError" in output):
        raise MemoryError(f"the environment of toolchain {toolchain} ran out of memory")
    if run.returncode:
        last = (output.strip().splitlines() or ["it said nothing"])[-1][:300]
        raise errors.SourceError(f"{request['source']}: toolchain {toolchain} could not read it ({last})")
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    record = active()
    if record is not None:
        record.merge(answer["user_code"])
    if "error" in answer:
        kind = getattr(errors, answer["error"]["kind"])
        source = os.path.relpath(request["source"])
        message = answer["error"]["message"].replace(request["source"], source)
        raise kind(f"{message} (toolchain {toolchain})")
    return answer


def write_arrays(folder: Path, runs: Sequence[Run]) -> list[int]:
    """Write the runs' inputs for the environment. Returns the number of arrays of each run."""
    arrays = {}
    for index, run in enumerate(runs):
        for position, array in enumerate(run.inputs):
            if array.dtype == object:
                array = np.array([bytes(text) for text in array.reshape(-1)]).reshape(array.shape)
            elif array.dtype.name == "bfloat16":
                raise ParameterError("a bfloat16 input cannot be handed to a legacy environment: leave toolchain out")
            arrays[f"run{index}_{position}"] = array
    np.savez(folder / "inputs.npz", **arrays)
    return [len(run.inputs) for run in runs]


def read_arrays(folder: Path, counts: Sequence[int]) -> list[list[np.ndarray]]:
    """The outputs that the environment wrote, `counts` arrays for each run."""
    with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
        results = [[stored[f"run{index}_{position}"] for position in range(n)] for index, n in enumerate(counts)]
    return [[array.astype(object) if array.dtype.kind == "S" else array for array in arrays] for arrays in results]


def _replace_reference(spec: ImportSpec, hub: Hub, request: dict, folder: Path) -> None:
    """Put the old framework's own outputs in place of those that the handed-over file gave here."""
    runs = hub.reference()
    counts = write_arrays(folder, runs)
    call(spec.toolchain, {**request, "action": "run", "runs": counts}, folder)
    outputs = read_arrays(folder, [len(run.outputs) for run in runs])
    own = [Run(run.inputs, answers, run.kind) for run, answers in zip(runs, outputs, strict=True)]
    write_evidence(hub, own, hub.evidence["left_out"])
