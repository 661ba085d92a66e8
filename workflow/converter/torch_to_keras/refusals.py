"""Why operators have no counterpart in Keras and TensorFlow Lite files, where none can exist."""

from __future__ import annotations

import torch

__all__ = ["REFUSALS"]

aten = torch.ops.aten
_RANDOM = "it draws random numbers, which no file repeats: give them as an input"
_TRAINING = "it belongs to training, and converted models infer: export the module in eval mode"
_READS = "the values of its inputs become plain numbers, which layers cannot hold: keep them tensors, or ask for .onnx"

# What could be written as pairs of reals (torch/exact/complex_pairs.py) is no longer there.
_COMPLEX = (
    "Keras files hold no complex numbers, and these could not be written as pairs of reals: transform by a product with "
    "matrices of cosines and sines"
)

REFUSALS: dict[object, str] = {
    aten.rand.default: _RANDOM,
    aten.randn.default: _RANDOM,
    aten.randperm.default: _RANDOM,
    aten.multinomial.default: _RANDOM,
    aten.bernoulli.default: _RANDOM,
    aten.bernoulli.p: _RANDOM,
    aten.normal.float_Tensor: _RANDOM,
    aten.native_dropout.default: _TRAINING,
    aten._native_batch_norm_legit.default: _TRAINING,
    aten._adaptive_avg_pool2d_backward.default: _TRAINING,
    aten.avg_pool2d_backward.default: _TRAINING,
    aten.convolution_backward.default: _TRAINING,
    aten.embedding_dense_backward.default: _TRAINING,
    aten.max_pool2d_with_indices_backward.default: _TRAINING,
    aten.native_group_norm_backward.default: _TRAINING,
    aten.native_layer_norm_backward.default: _TRAINING,
    aten._local_scalar_dense.default: _READS,
    aten._fft_r2c.default: _COMPLEX,
    aten._fft_c2r.default: _COMPLEX,
    aten._fft_c2c.default: _COMPLEX,
    aten.view_as_complex.default: _COMPLEX,
    aten.complex.default: _COMPLEX,
    aten.polar.default: _COMPLEX,
    aten.bincount.default: "its result is as long as the largest value of its input says: use one_hot(x, n).sum(0)",
    aten.lgamma.default: "Keras has no logarithm of the gamma function: compute it beforehand",
    aten.digamma.default: "Keras has no digamma function: compute it beforehand",
    aten.linalg_matrix_exp.default: "Keras has no exponential of matrices: compute it beforehand",
    aten.linalg_qr.default: "its factors are determined up to signs only, and libraries choose these differently",
    aten.atan2.out: "it writes into a given tensor, which no exported program does: atan2 is what it becomes",
    aten.resize_.default: "it changes the size of memory in place: use view, or a new tensor",
    aten.sym_storage_offset.default: "a place in memory means nothing in a file",
    aten.sym_stride.int: "a step in memory means nothing in a file",
}
