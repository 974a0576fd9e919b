"""Small models to train: each a module with init, logits, predict, accuracy and loss_and_grad.

A model is a flat dict of named tensors in forward order and a few pure functions. They compute wherever
the parameters live (NumPy or CuPy), in the parameters' dtype, and never write to the parameters.
"""

from ps.models import cnn, mlp, softmax
from ps.models.softmax_cross_entropy import SoftmaxCrossEntropy, softmax_cross_entropy

__all__ = ["SoftmaxCrossEntropy", "cnn", "mlp", "softmax", "softmax_cross_entropy"]
