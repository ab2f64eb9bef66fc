"""Counts in messages: the noun agrees with the number."""

import pytest

from fewshot.runtime.counts import format_count


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1_234_567, "1,234,567 images")]
)
def test_regular_nouns(count, text):
    assert format_count(count, "image") == text


def test_other_words_are_given():
    assert format_count(1, "class is", "classes are") == "1 class is"
    assert format_count(3, "class is", "classes are") == "3 classes are"
