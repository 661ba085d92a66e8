"""TF1 checkpoint (.meta and the files of its prefix) to hub: import_checkpoint.py SOURCE HUB."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.contracts import ImportSpec
from converter.hub.hub import Hub
from converter.running.step_runner import run_import


def import_model(spec: ImportSpec, out: Path) -> Hub:
    if spec.toolchain != "default":
        from converter.legacy.source import import_tensorflow
        from converter.tf.sources.checkpoint import read_meta_graph
        from converter.tf.trust.refused_operators import refuse_unread

        if not spec.trusted:
            graph_def = read_meta_graph(spec.source)[0].graph_def
            refuse_unread(spec.source, graph_def, spec.input_nodes, spec.output_nodes)
        return import_tensorflow(spec, out)
    from converter.tf.sources.build_hub import Source, build_hub
    from converter.tf.sources.checkpoint import checkpoint_values, moving_averages, read_meta_graph
    from converter.tf.sources.checkpoint_session import restored_session
    from converter.tf.sources.graph_source import open_graph
    from converter.tf.sources.lookup_tables import session_tables

    meta, prefix = read_meta_graph(spec.source)
    source = open_graph(spec, meta.graph_def)
    graph_def = source.inference_graph()
    scope = meta.saver_def.restore_op_name.rpartition("/")[0] or "save"
    values = checkpoint_values(meta.graph_def, prefix, source.variables(graph_def), scope)
    with restored_session(meta, prefix, source, values, spec.trusted) as (session, restore):
        frozen = source.freeze(graph_def, values, out, session_tables(session))

        def run(arrays: list) -> list:
            if frozen.assigned:
                restore()
            return source.run(session, arrays)

        averages = moving_averages(meta.graph_def, prefix, values, scope)
        if averages:
            source.notes.append(
                f"the checkpoint also holds moving averages of its variables ({', '.join(averages[:3])}, ...), which the graph "
                "restores only with a saver of its own for them: the plain values were taken"
            )
            source.decisions.append("weights: plain values, not their moving averages")
        loaded = Source(
            run, source.notes, source.input_candidates, source.output_candidates, decisions=source.decisions
        )
        return build_hub(spec, out, frozen, loaded)


if __name__ == "__main__":
    sys.exit(run_import("import_checkpoint", import_model))
