import pytest
import torch

from gigraph.extractors.autoencoder import Autoencoder
from gigraph.extractors.sae import Penalised
from reference import autoencoder


@pytest.fixture
def sae():
    torch.manual_seed(0)
    shapes = ((7, 4), (7,), (4, 7), (4,))
    return Autoencoder(*(torch.randn(shape, dtype=torch.float64) for shape in shapes))


def parts(sae):
    return sae.encoder, sae.encoder_bias, sae.decoder, sae.decoder_bias


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_equation_11_against_the_literal_sum(sae, penalty):
    x = torch.randn(5, 4, dtype=torch.float64)
    literal = autoencoder.loss(x.tolist(), *(part.tolist() for part in parts(sae)), penalty)
    assert float(Penalised(penalty, True).loss(sae, x, 1.0)) == pytest.approx(literal, rel=1e-12)


def test_no_scale_moves_between_encoder_and_decoder(sae):
    x = torch.randn(5, 4, dtype=torch.float64)
    scale = torch.rand(7, dtype=torch.float64) + 0.5
    encoder, encoder_bias, decoder, decoder_bias = parts(sae)
    other = Autoencoder(encoder * scale[:, None], encoder_bias * scale, decoder / scale, decoder_bias)
    torch.testing.assert_close(*(Penalised(0.3, True).loss(one, x, 1.0) for one in (other, sae)))


def test_the_penalty_rises_over_the_first_twentieth_of_the_steps(sae):
    x = torch.randn(5, 4, dtype=torch.float64)
    rising = [float(Penalised(0.3, True).loss(sae, x, done)) for done in (0.01, 0.025, 0.05, 0.5)]
    without, whole = (float(Penalised(penalty, True).loss(sae, x, 1.0)) for penalty in (0.0, 0.3))
    expected = [without + share * (whole - without) for share in (0.2, 0.5, 1.0, 1.0)]
    assert rising == pytest.approx(expected)
