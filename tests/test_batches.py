"""Training batches: every item once a round, image and mask alike, the same on any machine."""

import numpy as np

from covid_utils.data import augment
from covid_utils.data.cache import Rows
from covid_utils.training import batches


def squares(count, side=24):
    """Images that are told apart by their gray, with a mask of the same square."""
    images, masks = np.zeros((2, count, side, side), np.uint8)
    images[:, 8:16, 6:18] = 10 + np.arange(count)[:, None, None]
    masks[:, 8:16, 6:18] = 1
    return images, masks


def test_every_item_comes_once_a_round():
    position = batches.shuffled(5, seed=0)
    rounds = np.array([position(draw) for draw in range(30)]).reshape(6, 5)
    assert (np.sort(rounds, axis=1) == np.arange(5)).all()
    assert len({tuple(one) for one in rounds}) > 1
    # In any order of asking: threads do not take turns.
    assert [position(draw) for draw in (29, 3, 14)] == [rounds.ravel()[d] for d in (29, 3, 14)]


def test_pairs_move_alike_and_come_in_the_order_of_draws():
    images, masks = squares(6)
    stream = batches.of_pairs(images, masks, 4, seed=3, augmented=augment.pair)
    seen = []
    for image, mask in stream.take(3).as_numpy_iterator():
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == mask.shape == (4, 24, 24)
        # Half a pixel of rim may round to the other side.
        assert ((image > 5) != (mask == 1)).mean() < 0.06
        seen += [int(one.max()) - 10 for one in image]
    position = batches.shuffled(6, seed=3)
    assert seen == [position(draw) for draw in range(12)]


def test_batches_do_not_depend_on_the_number_of_threads(monkeypatch):
    images, masks = squares(9)
    images, seen = Rows(images.shape, np.uint8, images.__getitem__), []
    for threads in (1, 4):
        monkeypatch.setattr(batches.os, "cpu_count", lambda threads=threads: threads)
        stream = batches.of_pairs(images, masks, 5, seed=1, augmented=augment.pair)
        seen.append([np.stack(both) for both in stream.take(4).as_numpy_iterator()])
    assert np.array_equal(*seen)


def test_a_later_start_goes_on_where_the_earlier_batches_ended():
    images, masks = squares(5)
    for augmented in (augment.pair, augment.published_pair):
        whole, rest = (
            batches.of_pairs(images, masks, 2, seed=4, augmented=augmented, first=first)
            for first in (0, 3)
        )
        expected = list(whole.take(5).as_numpy_iterator())[3:]
        seen = list(rest.take(2).as_numpy_iterator())
        assert np.array_equal(np.stack(seen), np.stack(expected))
