"""Images that are held out of training: how many of each class, whole groups, turned copies."""

import numpy as np
import pytest

from fewshot import ImageSet
from fewshot.errors import DataError
from fewshot.images.holding_out import hold_out_images


def numbered(labels, groups=None):
    """Image i shows i everywhere."""
    images = np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None, None], (len(labels), 1, 4, 4))
    names = [f"c{c}" for c in range(max(labels) + 1)]
    return ImageSet(images.copy(), labels, names, groups, name="numbered", split="train")


def shown(imageset):
    """The number of the image in each stored row."""
    return imageset.images[:, 0, 0, 0].tolist()


def test_of_each_class_so_many_images_go_out_and_none_is_in_both_parts():
    labels = np.repeat([0, 1, 2], [5, 8, 4])
    whole = numbered(labels)
    kept, held = hold_out_images(whole, 3)
    assert held.class_counts.tolist() == [3, 3, 3]
    assert kept.class_counts.tolist() == [2, 5, 1]
    assert sorted(shown(kept) + shown(held)) == list(range(17))
    for part in (kept, held):
        assert part.labels.tolist() == labels[shown(part)].tolist()
        assert part.origins == whole.origins
        assert part.digests.tolist() == whole.digests[shown(part)].tolist()
    assert shown(hold_out_images(numbered(labels), 3)[1]) == shown(held)  # the same ones each time
    assert kept.fingerprint != whole.fingerprint


def test_a_class_keeps_an_image():
    _, held = hold_out_images(numbered([0, 0, 1, 1, 1]), 10)
    assert held.class_counts.tolist() == [1, 2]


def test_groups_go_out_whole_also_where_they_hold_several_classes():
    labels, groups = np.array([0, 0, 1, 1] * 6), np.repeat(np.arange(6), 4)
    kept, held = hold_out_images(numbered(labels, groups), 3)
    assert {number // 4 for number in shown(kept)} & {number // 4 for number in shown(held)} == set()
    assert sorted(shown(kept) + shown(held)) == list(range(24))
    assert held.class_counts.tolist() == [4, 4]  # two whole groups of two


def test_turned_copies_go_with_their_image():
    kept, held = hold_out_images(numbered([0] * 4 + [1] * 4).rotations_as_classes(), 1)
    assert (len(held.images), len(held), held.n_classes) == (2, 8, 8)
    assert held.class_counts.tolist() == [1] * 8
    assert kept.class_counts.tolist() == [3] * 8


def test_a_class_with_one_group_is_named():
    with pytest.raises(DataError, match="no image of c1 can be held out"):
        hold_out_images(numbered([0, 0, 1, 1], ["a", "b", "c", "c"]), 1)
