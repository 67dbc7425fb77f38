import pytest
import torch

from gigraph.extractors.autoencoder import SparseAutoencoder
from reference import autoencoder


@pytest.fixture
def sae():
    torch.manual_seed(0)
    shapes = ((7, 4), (7,), (4, 7), (4,))
    return SparseAutoencoder(*(torch.randn(shape, dtype=torch.float64) for shape in shapes))


def parts(sae):
    return sae.encoder, sae.encoder_bias, sae.decoder, sae.decoder_bias


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_equation_11_against_the_literal_sum(sae, penalty):
    x = torch.randn(5, 4, dtype=torch.float64)
    literal = autoencoder.loss(x.tolist(), *(part.tolist() for part in parts(sae)), penalty)
    assert float(sae.loss(x, penalty)) == pytest.approx(literal, rel=1e-12)


def test_no_scale_moves_between_encoder_and_decoder(sae):
    x = torch.randn(5, 4, dtype=torch.float64)
    scale = torch.rand(7, dtype=torch.float64) + 0.5
    encoder, encoder_bias, decoder, decoder_bias = parts(sae)
    other = SparseAutoencoder(encoder * scale[:, None], encoder_bias * scale, decoder / scale, decoder_bias)
    torch.testing.assert_close(other.loss(x, 0.3), sae.loss(x, 0.3))
