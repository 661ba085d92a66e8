# Frozen TensorFlow graphs: .pb, and .pbtxt in text form; as a source and as a target.


# Its constants as weights, and reference outputs, in intermediate/.
use rule import_added as import_protobuf with:
    wildcard_constraints:
        key=planned.keys_of("protobuf"),
    cache: True


# Frozen with its weights, or with variables; compared with the source in TensorFlow.
use rule export_added as export_protobuf with:
    wildcard_constraints:
        extension=planned.extensions_of("protobuf"),
