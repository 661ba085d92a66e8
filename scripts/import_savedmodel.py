"""One signature of a SavedModel directory to hub: import_savedmodel.py SOURCE HUB."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.contracts import ImportSpec
from converter.hub.hub import Hub
from converter.running.step_runner import run_import


def import_model(spec: ImportSpec, out: Path) -> Hub:
    from converter.tf.sources.graph_file import refuse_recursion
    from converter.tf.sources.saved_model_file import choices, choose_signature, meta_graph_of, read_saved_model
    from converter.tf.trust.checkpoint_table import refuse_table
    from converter.tf.trust.saved_model_trust import refuse_untrusted

    saved_model = read_saved_model(spec.source)
    meta = meta_graph_of(spec.source, saved_model, spec.savedmodel_tag)
    refuse_recursion(spec.source, meta.graph_def)
    refuse_table(str(spec.source / "variables" / "variables"))
    if not spec.trusted:
        refuse_untrusted(spec.source, meta, alone=len(saved_model.meta_graphs) == 1)
    if spec.toolchain != "default":
        from converter.legacy.source import import_tensorflow

        return import_tensorflow(spec, out)
    signature = choose_signature(spec.source, meta, spec.savedmodel_signature)
    if meta.HasField("object_graph_def"):
        from converter.tf.sources.saved_model_v2 import import_signature

        hub = import_signature(spec, meta, out)
    else:
        from converter.tf.sources.saved_model_v1 import import_signature

        hub = import_signature(spec, meta, signature, out)
    notes, decisions = choices(saved_model, meta, spec.savedmodel_signature)
    hub.notes, hub.decisions = notes + hub.notes, decisions + hub.decisions
    return hub


if __name__ == "__main__":
    sys.exit(run_import("import_savedmodel", import_model))
