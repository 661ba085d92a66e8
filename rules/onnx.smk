# ONNX files, from every source format.


# Compared with the source in onnxruntime.
use rule export_added as export_onnx with:
    wildcard_constraints:
        extension=planned.extensions_of("onnx"),
