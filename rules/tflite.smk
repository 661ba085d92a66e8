# TensorFlow Lite files: as a source, and as a target, quantized if wanted.


# Its graph as ONNX, and what LiteRT computes of it, in intermediate/.
use rule import_added as import_tflite with:
    wildcard_constraints:
        key=planned.keys_of("tflite"),
    cache: True


# From every source format; compared with the source in LiteRT.
use rule export_added as export_tflite with:
    wildcard_constraints:
        extension=planned.extensions_of("tflite"),
