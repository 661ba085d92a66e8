# PyTorch files: .pt, .pth and .pt2 in; Keras files out.


# Its exported program and reference outputs, in intermediate/.
use rule import_added as import_pytorch with:
    wildcard_constraints:
        key=planned.keys_of("pytorch"),
    cache: True


# Keras files of ordinary layers; compared with the source in Keras.
use rule export_added as export_keras with:
    wildcard_constraints:
        extension=planned.extensions_of("keras"),
