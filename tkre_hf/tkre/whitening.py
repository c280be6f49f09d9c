"""Within-class covariance normalization: a last turn of the space, once stage 2 is done."""

from __future__ import annotations

import torch
from torch import Tensor


def within_class_transform(vectors: Tensor, labels: Tensor, shrinkage: float) -> Tensor:
    """The map that makes directions count less the more the sentences of one relation differ along them.

    W^(-1/2) for the within-class covariance W (WCCN: Hatch, Kajarekar and Stolcke, Interspeech 2006), shrunk towards
    the identity: of W's 384 variances most are estimated from too few relations to be trusted as they are.

    Args:
        vectors: Relation representations, ``(sentences, dim)``.
        labels: Their relations, ``(sentences,)``, integers from 0. A relation with one sentence says nothing.
        shrinkage: How much of the identity is added to W, in units of W's mean variance; infinitely much would leave
            every angle as it is.

    Returns:
        ``(dim, dim)``, symmetric. Its scale means nothing, since vectors are compared at length one.

    Raises:
        ValueError: ``shrinkage`` is below 0, or no relation has two different sentences.
    """
    if shrinkage < 0:
        raise ValueError(f"the shrinkage must not be below 0, found {shrinkage}")
    vectors = vectors.double()
    count = torch.bincount(labels).clamp(min=1)
    mean = vectors.new_zeros(len(count), vectors.shape[1]).index_add_(0, labels, vectors) / count[:, None]
    residual = vectors - mean[labels]
    covariance = residual.T @ residual / max(int((count - 1).sum()), 1)
    scale = covariance.diagonal().mean()
    if scale <= 0:
        raise ValueError("no relation has two different sentences, so how they differ within one is unknown")
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    values, axes = torch.linalg.eigh(covariance / scale + shrinkage * identity)
    # Rounding leaves a variance that is zero a little below it.
    return ((axes * values.clamp(min=1e-6).rsqrt()) @ axes.T).float()
