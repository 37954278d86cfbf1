import math
import typing

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("tensorflow")

# what the discriminator's loss is where it is right by logits of 10,000, and the bounds of it where it is as wrong
EXTREMES = {
    "non_saturating": (0, 1e4, 2.1e4),
    "hinge": (0, 1e4, 2.1e4),
    "relativistic": (0, 1e4, 2.1e4),
}
NAMES = tuple(EXTREMES)


def column(tensorflow, *values):
    return tensorflow.constant([[value] for value in values])


def test_every_loss_that_a_parameter_can_name_is_there(tensorflow):
    from gan.training.losses import LOSSES
    from gan.training.params import TrainParams

    assert tuple(LOSSES) == typing.get_args(TrainParams.model_fields["loss"].annotation) == NAMES


def test_non_saturating_by_hand(tensorflow):
    from gan.training.losses import LOSSES

    # logit ln 3 is probability 3/4, logit 0 is 1/2
    logits = column(tensorflow, math.log(3.0), 0.0)
    real = (-math.log(3 / 4) - math.log(1 / 2)) / 2
    fake = (-math.log(1 / 4) - math.log(1 / 2)) / 2
    assert float(LOSSES["non_saturating"].d_loss(logits, None)) == pytest.approx(real, rel=1e-6)
    assert float(LOSSES["non_saturating"].d_loss(None, logits)) == pytest.approx(fake, rel=1e-6)
    assert float(LOSSES["non_saturating"].d_loss(logits, logits)) == pytest.approx(real + fake, rel=1e-6)
    assert float(LOSSES["non_saturating"].g_loss(None, logits)) == pytest.approx(real, rel=1e-6)


def test_hinge_by_hand(tensorflow):
    from gan.training.losses import LOSSES

    real, fake = column(tensorflow, 2.0, 0.5, -1.0), column(tensorflow, -3.0, 0.0, 1.0)
    # real: max(0, 1 - 2) + max(0, 1 - 0.5) + max(0, 1 + 1) = 0 + 0.5 + 2; fake: max(0, 1 - 3) + 1 + 2
    assert float(LOSSES["hinge"].d_loss(real, None)) == pytest.approx(2.5 / 3)
    assert float(LOSSES["hinge"].d_loss(None, fake)) == pytest.approx(3 / 3)
    assert float(LOSSES["hinge"].d_loss(real, fake)) == pytest.approx(5.5 / 3)
    assert float(LOSSES["hinge"].g_loss(None, fake)) == pytest.approx(2 / 3)


def test_relativistic_by_hand(tensorflow):
    from gan.training.losses import LOSSES

    # pairs that differ by ln 3 and by -ln 3: D puts 3/4 and 1/4 on the real one being the real one, G hopes for the rest
    real, fake = column(tensorflow, math.log(3.0) + 5, 1.0), column(tensorflow, 5.0, 1.0 + math.log(3.0))
    both = (-math.log(3 / 4) - math.log(1 / 4)) / 2
    assert float(LOSSES["relativistic"].d_loss(real, fake)) == pytest.approx(both, rel=1e-6)
    assert float(LOSSES["relativistic"].g_loss(real, fake)) == pytest.approx(both, rel=1e-6)
    assert float(LOSSES["relativistic"].d_loss(real[:1], fake[:1])) == pytest.approx(math.log(4 / 3), rel=1e-6)
    assert float(LOSSES["relativistic"].g_loss(real[:1], fake[:1])) == pytest.approx(math.log(4), rel=1e-6)


def test_cross_entropies_agree_with_keras(tensorflow):
    import keras

    from gan.training.losses import LOSSES

    logits = tensorflow.random.stateless_normal([300, 1], [1, 2]) * 4
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    ones, zeros = tensorflow.ones([300, 1]), tensorflow.zeros([300, 1])
    assert float(LOSSES["non_saturating"].d_loss(logits, None)) == pytest.approx(float(loss(ones, logits)), rel=1e-5)
    assert float(LOSSES["non_saturating"].d_loss(None, logits)) == pytest.approx(float(loss(zeros, logits)), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_losses_of_extreme_logits_are_finite(tensorflow, name):
    from gan.training.losses import LOSSES

    high, low = tensorflow.constant([[1e4]]), tensorflow.constant([[-1e4]])
    right, least_wrong, most_wrong = EXTREMES[name]
    assert float(LOSSES[name].d_loss(high, low)) == pytest.approx(right, rel=1e-6, abs=0)
    assert least_wrong <= float(LOSSES[name].d_loss(low, high)) <= most_wrong
    assert math.isfinite(float(LOSSES[name].g_loss(high, low)))


@pytest.mark.parametrize("name", NAMES)
def test_the_two_networks_pull_fake_logits_apart(tensorflow, name):
    from gan.training.losses import LOSSES

    real, fake = tensorflow.constant([[0.3]]), tensorflow.constant([[0.2]])  # within 0 and 1, which least squares draw toward
    with tensorflow.GradientTape(persistent=True) as tape:
        tape.watch([real, fake])
        d, g = LOSSES[name].d_loss(real, fake), LOSSES[name].g_loss(real, fake)
    assert tape.gradient(d, fake).numpy().item() > 0 > tape.gradient(g, fake).numpy().item()
    assert tape.gradient(d, real).numpy().item() < 0


def test_accuracy_by_hand(tensorflow):
    from gan.training.losses import LOSSES

    # real: two of four above 0 (0 itself is called fake); fake: three of four at or below 0
    real = column(tensorflow, 1.0, 2.0, 0.0, -1.0)
    fake = column(tensorflow, -1.0, 0.0, -3.0, 5.0)
    assert float(LOSSES["non_saturating"].accuracy(real, fake)) == pytest.approx((2 / 4 + 3 / 4) / 2)
    # of the pairs, (1, -1), (2, 0) and (0, -3) are in order, (-1, 5) is not
    assert float(LOSSES["relativistic"].accuracy(real, fake)) == pytest.approx(3 / 4)


def test_squared_gradient_norm_by_hand(tensorflow):
    from gan.training.losses import squared_gradient_norm

    # logit = 3 a + b^2 over a 1 x 2 image (a, b): the gradient is (3, 2 b), its square 9 + 4 b^2, for b = 1 and 2: 13 and 25
    images = tensorflow.constant([[[[7.0], [1.0]]], [[[0.0], [2.0]]]])
    norm = squared_gradient_norm(lambda x: 3 * x[:, 0, 0] + tensorflow.square(x[:, 0, 1]), images)
    assert float(norm) == pytest.approx((13 + 25) / 2)


def test_squared_gradient_norm_against_finite_differences(tensorflow):
    from gan.training.losses import squared_gradient_norm
    from gan.training.networks import build_discriminator, logits_of

    network = logits_of(build_discriminator(network="conv", units=[2, 3, 4], leaky_slope=0.2, classes=10, seed=0))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 28, 28, 1)).astype(np.float32)
    labels = np.array([3, 8], np.int32)
    ours = float(squared_gradient_norm(lambda x: network([x, tensorflow.constant(labels)]), tensorflow.constant(images)))

    # one pixel moved at a time, all moves in one batch; both images' own logits
    step = 1e-2
    total = 0.0
    for image, label in zip(images, labels, strict=True):
        moves = np.eye(28 * 28, dtype=np.float32).reshape(-1, 28, 28, 1) * step
        repeated = np.full(28 * 28, label, np.int32)
        slopes = (network([image + moves, repeated]) - network([image - moves, repeated])).numpy() / (2 * step)
        total += np.sum(slopes.astype(np.float64) ** 2)
    assert ours == pytest.approx(total / 2, rel=0.02)
