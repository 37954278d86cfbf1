import math

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("tensorflow")


def factors(tensorflow, *steps, **options):
    from gan.training.schedules import rate_factor

    return [float(rate_factor(tensorflow.constant(step), **options)) for step in steps]


def test_a_constant_rate_is_the_number_one_itself(tensorflow):
    from gan.training.schedules import rate_factor

    # not a tensor: the published set's program, and so its rounding, stays what it was
    assert rate_factor(tensorflow.constant(7), steps=10, warm_up_steps=0, constant_share=1.0, final_share=1.0) == 1.0
    assert isinstance(rate_factor(tensorflow.constant(7), steps=10, warm_up_steps=0, constant_share=1.0, final_share=1.0), float)


def test_warm_up_by_hand(tensorflow):
    options = {"steps": 100, "warm_up_steps": 4, "constant_share": 1.0, "final_share": 1.0}
    assert factors(tensorflow, 0, 1, 2, 3, 4, 99, **options) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_warm_up_constant_and_cosine_by_hand(tensorflow):
    options = {"steps": 101, "warm_up_steps": 10, "constant_share": 20 / 101, "final_share": 0.02}
    # the cosine runs over 80 steps, from 20 to 100: a quarter, a half and all of it
    quarter = 0.02 + 0.98 * 0.5 * (1 + math.sqrt(0.5))
    expected = [0.1, 1, 1, quarter, 0.51, 0.02]
    assert factors(tensorflow, 0, 9, 20, 40, 60, 100, **options) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("steps", "constant_share"), [(10, 0.85), (10, 0.95), (2, 0.6), (1, 0.5)])
def test_a_decay_that_is_shorter_than_a_step_is_over_at_the_last_one(tensorflow, steps, constant_share):
    found = factors(tensorflow, *range(steps), steps=steps, warm_up_steps=0, constant_share=constant_share, final_share=0.1)
    assert found == pytest.approx([1.0] * (steps - 1) + [0.1])


def test_average_decay_by_hand(tensorflow):
    from gan.training.schedules import average_decay

    for gamma, expected in ((8.0, [1 / 10, 2 / 11, 91 / 100, 0.999]), (4.0, [1 / 6, 2 / 7, 91 / 96, 0.999])):
        values = [float(average_decay(tensorflow.constant(step), 0.999, gamma)) for step in (0, 1, 90, 10**6)]
        assert values == pytest.approx(expected)


def test_a_late_average_spans_the_stated_share_of_the_steps(tensorflow):
    """With a decay of (1 + t) / (gamma + 2 + t), step s weighs about s ** gamma in it: Karras et al. 2024, equation 2."""
    from gan.training.schedules import average_decay

    steps, gamma = 2000, 4.0
    decays = average_decay(tensorflow.range(steps), 0.99999, gamma).numpy().astype(np.float64)
    weights = (1 - decays) * np.append(np.cumprod(decays[:0:-1])[::-1], 1)
    expected = np.arange(1, steps + 1) ** gamma
    np.testing.assert_allclose(weights[100:], expected[100:] / expected.sum(), rtol=0.1)
