"""What is said of refusals by `fit` and `check`, and prediction sets in the csv file and on the page."""

import csv
from types import SimpleNamespace

import numpy as np
import torch

from fewshot.config.classifier import RefusalOptions
from fewshot.estimator.rejection import Rejection
from fewshot.estimator.thresholds import RefusalScores
from fewshot.photographs.pages.predictions import Prediction, write_csv
from fewshot.photographs.pages.predictions_page import write_predictions
from fewshot.photographs.refusals import RefusalPrice


def price_of(threshold: float) -> RefusalPrice:
    """Three classes of four photographs: known scores 0 to 11, the even ones answered rightly; unknown ones -1, 5, …"""
    labels, rows = np.repeat([0, 1, 2], 4), np.arange(12)
    logits = torch.zeros(12, 3)
    logits[torch.arange(12), torch.from_numpy(np.where(rows % 2, (labels + 1) % 3, labels))] = 1.0
    unknown = np.where(rows % 4 == 0, 5.0, -1.0)
    scores = RefusalScores(rows.astype(float), np.ones(12), rows, unknown, np.ones(12), labels)
    fitted = SimpleNamespace(held_out=(logits, rows), support=SimpleNamespace(labels=labels, independent=None))
    return RefusalPrice.estimate(fitted, Rejection(threshold, scores))


def test_the_price_by_hand():
    price = price_of(3.0)  # 0, 1, 2 are refused; 4, 6, 8, 10 of the nine others are right; three of twelve are accepted
    assert (price.refused.mean, price.accuracy.mean, price.accepted.mean) == (3 / 12, 4 / 9, 3 / 12)
    assert price.refused.low < 0.25 < price.refused.high
    lines = price.describe(RefusalOptions(false_accept_rate=0.1))
    assert lines[0].startswith("of 100 photographs of your classes about 25 (95% interval ")
    assert lines[1].startswith("of 100 photographs of other things about 25 (95% interval ")
    assert lines[2].startswith("of 100 answers that are not refused about 44 (95% interval ")
    assert len(lines) == 3


def test_above_a_third_there_is_a_warning_that_says_what_to_do():
    (warning,) = [line for line in price_of(5.0).describe(RefusalOptions(false_accept_rate=0.1)) if "WARNING" in line]
    assert "more than a third of your own photographs" in warning
    assert "false_accept_rate above 0.1" in warning
    assert "false_reject_rate below 0.4" in price_of(5.0).describe(RefusalOptions(false_reject_rate=0.4))[-1]
    assert len(price_of(4.0).describe(RefusalOptions(balanced=True))) == 3  # exactly a third
    assert price_of(99.0).accuracy is None


def test_sets_stand_in_the_csv_file_and_on_the_page(tmp_path):
    shares = {"a": 0.5, "=b": 0.4, "c": 0.1}
    predictions = [
        Prediction("1.jpg", None, "a", shares, could_be=("a", "=b")),
        Prediction("2.jpg", None, "a", shares, could_be=("a",)),
    ]
    write_csv(tmp_path / "o.csv", predictions, list(shares))
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert [row["could_be"] for row in rows] == ["a | =b", "a"]
    write_predictions(tmp_path / "o.html", predictions, list(shares))
    page = (tmp_path / "o.html").read_text()
    assert page.count("Could be") == 1  # a set of one class says nothing beside the answer
    assert 'Could be <span class="tag">a</span><span class="tag">=b</span>' in page
    write_csv(tmp_path / "p.csv", [Prediction("1.jpg", None, "a", shares)], list(shares))
    assert "could_be" not in (tmp_path / "p.csv").read_text()
