# SavedModel directories, of TensorFlow 1.15 to today.


# One of its signatures: graph, weights and reference outputs, in intermediate/.
use rule import_added as import_savedmodel with:
    wildcard_constraints:
        key=planned.keys_of("savedmodel"),
    cache: True
