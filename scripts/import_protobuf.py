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
    import tensorflow as tf

    from converter.tf.graph.constants import extract_large_constants
    from converter.tf.graph.graph import clean
    from converter.tf.sources.build_hub import Source, build_hub
    from converter.tf.sources.graph_file import read_graph_file, refuse_unfrozen
    from converter.tf.sources.graph_source import import_graph, known_part, open_graph
    from converter.tf.sources.lookup_tables import initialize_tables, session_tables
    from converter.tf.trust.refused_operators import disarm

    graph_def = read_graph_file(spec.source)
    if not spec.trusted:
        disarm(graph_def)
    graph_def = known_part(graph_def, spec.input_nodes, spec.output_nodes)
    clean(graph_def)
    # The session that makes the reference gets the file's graph as it is; all else works without the weights.
    session = tf.compat.v1.Session(graph=import_graph(spec, graph_def))
    weights = extract_large_constants(graph_def)
    source = open_graph(spec, graph_def, weights=weights)
    inference = source.inference_graph()
    refuse_unfrozen(spec.source, source.variables(inference))
    with session:
        outputs = [entry.tensor for entry in source.outputs]
        initialize_tables(session, spec.source, graph_def, outputs, spec.trusted)
        frozen = source.freeze(inference, {}, out, session_tables(session))
        loaded = Source(
            lambda arrays: source.run(session, arrays),
            source.notes,
            source.input_candidates,
            source.output_candidates,
            decisions=source.decisions,
        )
        return build_hub(spec, out, frozen, loaded)


if __name__ == "__main__":
    sys.exit(run_import("import_protobuf", import_model))
