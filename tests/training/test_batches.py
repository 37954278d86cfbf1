import numpy as np
import pytest

from gan.training.batches import Epochs


@pytest.mark.parametrize("count, batch_size", [(100, 8), (100, 100), (17, 50)])  # the last: many epochs a batch
def test_every_epoch_shows_each_image_once_in_an_order_of_its_own(count, batch_size):
    drawn = Epochs(count, batch_size, seed=0).indices(0, 50)
    assert drawn.shape == (50, batch_size) and drawn.dtype == np.int32
    epochs = drawn.ravel()[: drawn.size // count * count].reshape(-1, count)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(count), (len(epochs), 1)))
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_batches_depend_on_the_seed_and_the_step_alone():
    whole = Epochs(100, 8, seed=3).indices(0, 50)
    again = Epochs(100, 8, seed=3)
    for first, steps in ((40, 10), (0, 13), (13, 27)):  # in any order, as a resumed run asks for them
        np.testing.assert_array_equal(again.indices(first, steps), whole[first : first + steps])
    assert not np.array_equal(Epochs(100, 8, seed=4).indices(0, 50), whole)
