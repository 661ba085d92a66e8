"""Frozen TensorFlow graph (.pb, or .pbtxt as text) to hub: import_protobuf.py SOURCE HUB."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.contracts import ImportSpec
from converter.hub.hub import Hub
from converter.running.step_runner import run_import


def import_model(spec: ImportSpec, out: Path) -> Hub:
    if spec.toolchain != "default":
        from converter.legacy.source import import_tensorflow
        from converter.tf.sources.graph_file import read_graph_file
        from converter.tf.trust.refused_operators import refuse_unread

        if not spec.trusted:
            refuse_unread(spec.source, read_graph_file(spec.source), spec.input_nodes, spec.output_nodes)
        return import_tensorflow(spec, out)
    from converter.tf.sources.frozen_graph import hub_of_frozen_graph
    from converter.tf.sources.graph_file import read_graph_file
    from converter.tf.sources.graph_source import known_part
    from converter.tf.trust.refused_operators import disarm

    graph_def = read_graph_file(spec.source)
    if not spec.trusted:
        disarm(graph_def)
    graph_def = known_part(graph_def, spec.input_nodes, spec.output_nodes)
    return hub_of_frozen_graph(spec, graph_def, out)[0]


if __name__ == "__main__":
    sys.exit(run_import("import_protobuf", import_model))
