# TensorFlow 1 checkpoints: a .meta with its .index and .data files.


# Its inference graph, weights and reference outputs, in intermediate/.
use rule import_added as import_checkpoint with:
    wildcard_constraints:
        key=planned.keys_of("checkpoint"),
    cache: True
