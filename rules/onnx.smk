# ONNX files: as a source and as a target.


# Its graph and weights, and reference outputs, in intermediate/.
use rule import_added as import_onnx with:
    wildcard_constraints:
        key=planned.keys_of("onnx"),
    cache: True


# From every source format; compared with the source in onnxruntime.
use rule export_added as export_onnx with:
    wildcard_constraints:
        extension=planned.extensions_of("onnx"),
