import math

import pytest

pytestmark = pytest.mark.usefixtures("tensorflow")


def test_cross_entropies_by_hand(tensorflow):
    from gan.losses import d_loss_fake, d_loss_real, g_loss

    # logit ln 3 is probability 3/4, logit 0 is 1/2
    logits = tensorflow.constant([[math.log(3.0)], [0.0]])
    real = (-math.log(3 / 4) - math.log(1 / 2)) / 2
    fake = (-math.log(1 / 4) - math.log(1 / 2)) / 2
    assert float(d_loss_real(logits)) == pytest.approx(real, rel=1e-6)
    assert float(d_loss_fake(logits)) == pytest.approx(fake, rel=1e-6)
    assert float(g_loss(logits)) == pytest.approx(real, rel=1e-6)


def test_cross_entropies_agree_with_keras(tensorflow):
    import keras

    from gan.losses import d_loss_fake, d_loss_real

    logits = tensorflow.random.stateless_normal([300, 1], [1, 2]) * 4
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    assert float(d_loss_real(logits)) == pytest.approx(float(loss(tensorflow.ones([300, 1]), logits)), rel=1e-5)
    assert float(d_loss_fake(logits)) == pytest.approx(float(loss(tensorflow.zeros([300, 1]), logits)), rel=1e-5)


def test_losses_of_extreme_logits_are_finite(tensorflow):
    from gan.losses import d_loss_fake, d_loss_real

    assert float(d_loss_real(tensorflow.constant([[-1e4]]))) == pytest.approx(1e4)
    assert float(d_loss_fake(tensorflow.constant([[-1e4]]))) == 0


def test_accuracy_by_hand(tensorflow):
    from gan.losses import accuracy

    # real: two of four above 0 (0 itself is called fake); fake: three of four at or below 0
    real = tensorflow.constant([[1.0], [2.0], [0.0], [-1.0]])
    fake = tensorflow.constant([[-1.0], [0.0], [-3.0], [5.0]])
    assert float(accuracy(real, fake)) == pytest.approx((2 / 4 + 3 / 4) / 2)
