# Keras files: .h5 and .hdf5 of Keras 2 and 3, and .keras.


# Its inference graph, weights and reference outputs, in intermediate/.
use rule import_added as import_keras with:
    wildcard_constraints:
        key=planned.keys_of("keras"),
    cache: True
