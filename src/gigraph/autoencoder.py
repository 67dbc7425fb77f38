"""The sparse autoencoder that concepts are compared with: its code and its loss [Eq. 11, Templeton et al. 2024]."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SparseAutoencoder:
    """An autoencoder of PFVs with m hidden features.

    Attributes
    ----------
    encoder : Tensor [m, C]
        W_e.
    encoder_bias : Tensor [m]
        b_e.
    decoder : Tensor [C, m]
        W_d; its columns are the concept vectors.
    decoder_bias : Tensor [C]
        b_d.
    """

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor

    def features(self, x: Tensor) -> Tensor:
        """Return f(x) = ReLU(W_e x + b_e) [N, m] of PFVs [N, C]."""
        return (x @ self.encoder.T + self.encoder_bias).relu()

    def reconstruct(self, features: Tensor) -> Tensor:
        """Return W_d f + b_d [N, C]."""
        return features @ self.decoder.T + self.decoder_bias

    def loss(self, x: Tensor, penalty: float) -> Tensor:
        """Return the mean squared error plus the penalty on features, a number [Eq. 11].

        The paper writes the penalty outside the mean over x, though it depends on x; it is averaged here, as in
        the source that the paper follows. Each feature weighs the norm of its decoder column, so that no scale can
        be moved from one to the other.
        """
        features = self.features(x)
        error = (x - self.reconstruct(features)).square().sum(1)
        return (error + penalty * features @ self.decoder.norm(dim=0)).mean()
