import numpy as np
import pytest
import scipy.stats

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [  # the known answers that Salmon et al. published with Random123 for threefry2x32, 20 rounds
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_published_answers(tensorflow, key, counter, expected):
    from gan.training.threefry import threefry2x32

    words = threefry2x32(*[[tensorflow.constant(word, tensorflow.uint32) for word in pair] for pair in (key, counter)])
    assert tuple(int(word) for word in words) == expected


def draw(tensorflow, **options):
    from gan.training import threefry

    return tensorflow.function(lambda: threefry.bits(**options), jit_compile=True)()


def test_a_step_draws_the_same_numbers_in_any_block(tensorflow):
    whole = draw(tensorflow, seed=3, purpose=1, first_step=0, steps=6, count=50)[0].numpy()
    part = draw(tensorflow, seed=3, purpose=1, first_step=4, steps=2, count=50)[0].numpy()
    np.testing.assert_array_equal(whole[4:], part)


@pytest.mark.parametrize("change", [{"seed": 4}, {"purpose": 2}, {"first_step": 1}])
def test_seed_purpose_and_step_each_change_the_numbers(tensorflow, change):
    options = {"seed": 3, "purpose": 1, "first_step": 0, "steps": 1, "count": 1000}
    a, b = (draw(tensorflow, **o)[0].numpy() for o in (options, {**options, **change}))
    assert (a == b).sum() <= 1


def test_normals_are_standard_normal(tensorflow):
    from gan.training.threefry import to_normal

    words = draw(tensorflow, seed=0, purpose=1, first_step=0, steps=10, count=20000)
    normals = [to_normal(word).numpy().ravel() for word in words]
    for sample in normals:
        assert scipy.stats.kstest(sample, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(*normals)[0, 1]) < 0.01  # 4.5 standard deviations of 200,000 pairs


def test_normals_are_finite_at_both_ends(tensorflow):
    from gan.training.threefry import to_normal

    ends = to_normal(tensorflow.constant([0, 0xFFFFFFFF], tensorflow.uint32)).numpy()
    assert np.isfinite(ends).all()
    assert ends[0] == -ends[1] < -5


def test_integers_cover_the_range_evenly(tensorflow):
    from gan.training.threefry import to_integers

    words, _ = draw(tensorflow, seed=0, purpose=1, first_step=0, steps=1, count=100000)
    counts = np.bincount(to_integers(words, 10).numpy().ravel(), minlength=10)
    assert len(counts) == 10
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
