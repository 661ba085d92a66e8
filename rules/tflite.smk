# TensorFlow Lite files, from every source format, quantized if wanted.


# Compared with the source in LiteRT.
use rule export_added as export_tflite with:
    wildcard_constraints:
        extension=planned.extensions_of("tflite"),
