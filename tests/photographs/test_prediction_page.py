"""The HTML pages and the csv file: escaping, no network access, size, order and content."""

import base64
import csv
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot.errors import DataError
from fewshot.methods import create_method
from fewshot.photographs.inspection.check import check_folder
from fewshot.photographs.inspection.extrapolation import extrapolate
from fewshot.photographs.inspection.intervals import Proportion
from fewshot.photographs.inspection.learning_curve import measure_shots_curve, predict_left_out
from fewshot.photographs.pages.check_page import write_check
from fewshot.photographs.pages.confusion import count_confusions, write_confusion_table
from fewshot.photographs.pages.html import make_thumbnails, read_asset
from fewshot.photographs.pages.predictions import Neighbour, PageFacts, Prediction, write_csv
from fewshot.photographs.pages.predictions_page import write_predictions

NASTY = "<script>alert(1)</script>\"'&.png"
NAMES = ["cat", 'd<o>g "x"', "emu"]


class Page(HTMLParser):
    """Tags with attributes, the text of each row, and scripts, as a browser would see them."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.words, self.scripts, self._script = [], [], [], False
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._script = tag == "script"

    def handle_endtag(self, tag):
        self._script = False

    def handle_data(self, data):
        (self.scripts if self._script else self.words).append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def photo(tmp_path):
    def make(name, px=50):
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        pixels = np.random.default_rng(seed).integers(0, 256, (px, px, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
        return tmp_path / name

    return make


def predicted(path, shares, picture=None, **options):
    chances = dict(zip(NAMES, shares, strict=True))
    return Prediction(path, picture, max(chances, key=chances.__getitem__), chances, **options)


def built(tmp_path, predictions, **options):
    write_predictions(tmp_path / "out" / "page.html", predictions, NAMES, **options)
    return Page(tmp_path / "out" / "page.html")


def test_everything_is_escaped(tmp_path):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / NASTY.replace("/", "∕")
    Image.new("RGB", (9, 9)).save(path)
    p = predicted(str(path), (0.1, 0.8, 0.1), path, truth=NASTY, nearest=[Neighbour(path, NASTY, 0.5)])
    page = built(tmp_path, [p], facts=PageFacts(model_file=NASTY, backbone='"><img src=x onerror=alert(1)>'))
    assert len(page.scripts) == 1
    assert "alert" not in page.scripts[0]
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert not {tag for tag, _ in page.tags} & {"o", "iframe", "object"}
    assert NASTY in " ".join(page.words)  # and it is still what a reader sees
    assert [a["data-path"] for a in page.all("article")] == [str(path)]
    assert page.all("article")[0]["data-answer"] == NAMES[1]


def test_nothing_comes_from_elsewhere(tmp_path, photo):
    page = built(
        tmp_path, [predicted("a.png", (0.5, 0.3, 0.2), photo("a.png"), nearest=[Neighbour(photo("b.png"), "cat", 1.0)])]
    )
    for tag, attrs in page.tags:
        for key in ("src", "href", "action", "srcset"):
            if key in attrs:
                assert attrs[key].startswith(("data:image/webp;base64,", "#s")), (tag, attrs[key][:80])
    assert not re.search(r"https?:|url\(|@import", page.source)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy


def test_least_certain_first_and_what_a_row_says(tmp_path, photo):
    near = [Neighbour(photo("s1.png"), "emu", 0.91), Neighbour(photo("s2.png"), "cat", 0.85)]
    page = built(tmp_path, [
        predicted("sure.png", (0.98, 0.01, 0.01), photo("sure.png"), truth="cat", nearest=near),
        predicted("wrong.png", (0.2, 0.2, 0.6), photo("wrong.png"), truth="cat", nearest=near),
        predicted("stranger.png", (0.34, 0.33, 0.33), photo("stranger.png"), rejected=True, truth="yak"),
        predicted("gone.png", (0.7, 0.2, 0.1), tmp_path / "gone.png"),
    ])  # fmt: skip
    rows = page.all("article")
    assert [row["data-path"] for row in rows] == ["stranger.png", "wrong.png", "gone.png", "sure.png"]
    assert [row["data-answer"] for row in rows] == ["none of these", "emu", "cat", "cat"]
    assert [row["data-wrong"] for row in rows] == ["0", "1", "0", "0"]
    assert "It is cat." in page.text
    assert "no picture" in page.text
    assert {"60%", "98%", "0.91"} <= set(page.text.split())
    images = page.all("img")
    assert len(images) == 3
    assert all(a["loading"] == "lazy" and a["alt"] for a in images)
    assert len(page.all("symbol")) == 2  # support images are stored once, used twice
    assert len(page.all("use")) == 4
    buttons = [(a["data-kind"], a["data-name"]) for a in page.all("button") if "data-kind" in a]
    assert buttons == [("all", ""), ("wrong", ""), ("answer", "none of these"), ("answer", "cat"), ("answer", "emu")]
    assert "66.7% right, of 3 with a known class" in page.text


def test_accuracy_and_facts_are_shown(tmp_path):
    known = Proportion(0.75, 0.5, 0.9, 20, 4)
    page = built(
        tmp_path, [predicted("a.png", (0.5, 0.3, 0.2))], accuracy=known, facts=PageFacts("x.fewshot", temperature=0.5)
    )
    assert "75.0% right, 95% interval 50.0% to 90.0%" in page.text
    assert "model x.fewshot temperature 0.5" in page.text
    assert "method" not in page.text
    assert "What is taken for what" not in page.text


def test_many_classes_become_a_list(tmp_path):
    names = [f"class {k}" for k in range(40)]
    predictions = [
        Prediction(
            f"{k}.png", None, names[k], {n: 0.5 if n == names[k] else 0.5 / 39 for n in names}, truth=names[k - 1]
        )
        for k in range(40)
    ]
    write_predictions(tmp_path / "p.html", predictions, names)
    page = Page(tmp_path / "p.html")
    assert [a["data-kind"] for a in page.all("button") if "data-kind" in a] == ["all", "wrong"]
    assert {"id": "class", "aria-label": "class"} in page.all("select")
    assert "too many for a matrix" in page.text


def test_a_thousand_photographs_fit(tmp_path, photo):
    """Thumbnails of noise, the hardest to compress, stay within the limit for a thousand: 15 MB in base64."""
    paths = [photo(f"{k}.png", 192) for k in range(12)]
    data = make_thumbnails(paths + [tmp_path / f"absent {k}" for k in range(988)])
    assert len(data) == 12
    assert max(map(len, data.values())) * 1000 < 15e6 * 0.75
    few = make_thumbnails(paths[:1])
    assert len(data[paths[0]]) < len(few[paths[0]]) <= 40_000 * 4 / 3 + 50  # few can be enlarged


def test_only_the_least_certain_of_very_many_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("fewshot.photographs.pages.predictions_page.SHOWN_ROWS", 3)
    page = built(tmp_path, [predicted(f"{k}.png", (0.5 + k / 100, 0.2, 0.3 - k / 100)) for k in range(8)])
    assert [row["data-path"] for row in page.all("article")] == ["0.png", "1.png", "2.png"]
    assert "The 3 least certain of 8." in page.text


def test_probabilities_must_be_of_the_classes(tmp_path):
    with pytest.raises(DataError, match=r"a\.png.*2 classes, not of these 3"):
        built(tmp_path, [Prediction("a.png", None, "cat", {"cat": 0.5, "emu": 0.5})])


def test_right_and_wrong():
    def right(truth, rejected):
        return predicted("a", (0.8, 0.1, 0.1), truth=truth, rejected=rejected).right

    assert right(None, False) is None
    assert (right("cat", False), right("emu", False), right("cat", True)) == (True, False, False)
    assert (right("yak", True), right("yak", False)) == (True, False)


def test_confusion_counts_by_hand():
    rows, columns, counts = count_confusions(["b", "a", "b", "x"], ["b", "b", "none", "a"], ["a", "b", "c"])
    assert (rows, columns) == (["a", "b", "x"], ["a", "b", "none"])
    assert counts.tolist() == [[0, 1, 0], [0, 1, 1], [1, 0, 0]]
    table = write_confusion_table(rows, columns, counts)
    assert 'style="--s:0.500" title="b answered as none: 1">1</td>' in table
    assert table.count('class="sum">50%') == 1
    assert table.count('class="sum">0%') == 2


def test_csv(tmp_path):
    predictions = [
        predicted('a, "b".png', (0.25, 0.5, 0.25), rejected=True),
        predicted("ä\udcff.png", (0.125, 0.125, 0.75)),
    ]
    write_csv(tmp_path / "p.csv", predictions, NAMES)
    rows = list(csv.reader(io.StringIO((tmp_path / "p.csv").read_text(encoding="utf-8"))))
    assert rows == [
        ["file", "prediction", "nearest_class", "probability", "rejected", *NAMES],
        ['a, "b".png', "none of these", NAMES[1], "0.500000", "yes", "0.250000", "0.500000", "0.250000"],
        ["ä\\udcff.png", "emu", "emu", "0.750000", "no", "0.125000", "0.125000", "0.750000"],
    ]


def folder(tmp_path, photo):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for k in range(5):
            photo(f"pets/{name}/{k}.png")
    return tmp_path / "pets"


def test_check_page(tmp_path, photo):
    root = folder(tmp_path, photo)
    (root / "dog" / "copy.png").write_bytes((root / "cat" / "0.png").read_bytes())
    (root / "dog" / "<b>bad.png").write_bytes(b"x")
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 16)
    features = torch.tensor(labels[:, None] * 1.5 + rng.normal(size=(32, 3)), dtype=torch.float32)
    predict = create_method("protonet", None).predict_among
    estimate = predict_left_out(predict, features, labels)
    curve = measure_shots_curve(predict, features, labels, n_draws=10)
    write_check(
        tmp_path / "c.html", check_folder(root, size_px=32), estimate, labels, ["cat", "dog"], curve,
        extrapolate(curve, (0.6, 0.99), n_boots=50), [("backbone", "x")],
    )  # fmt: skip
    page = Page(tmp_path / "c.html")
    assert "1 picture lies in two classes" in page.text
    assert [a["alt"] for a in page.all("img")] == ["cat/0.png", "dog/copy.png"]
    assert "dog/<b>bad.png" in page.text
    assert not page.all("b") or all("class" not in a for a in page.all("b"))
    assert f"{estimate.overall.mean:.1%} right" in page.text
    charts = [a for a in page.all("svg") if a.get("class") == "chart"]
    assert len(charts) == 1
    assert len(page.all("circle")) == len(curve.shots)
    assert page.scripts == [read_asset("enlarge.js")]
    assert "backbone x" in page.text


def test_check_page_without_estimates(tmp_path, photo):
    write_check(tmp_path / "c.html", check_folder(folder(tmp_path, photo), size_px=32))
    page = Page(tmp_path / "c.html")
    assert "Nothing to mend" in page.text
    assert "How often" not in page.text
