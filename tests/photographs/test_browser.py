"""The page of answers in a browser: corrections are collected and saved, pictures are enlarged."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from fewshot.photographs.pages.predictions import Prediction
from fewshot.photographs.pages.predictions_page import write_predictions

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page with")
CLASSES = ["cat", 'd,o"g']
CLICKS = """
<script>
addEventListener("load", () => {
  const told = {}, rows = [...document.querySelectorAll("#rows > *")], bar = document.getElementById("corrections");
  const choose = (number, words) => {
    const select = rows[number].querySelector(".fix");
    select.dispatchEvent(new Event("focus"));
    select.value = [...select.options].find((option) => option.textContent === words).value;
    select.dispatchEvent(new Event("change"));
    told.options = [...select.options].map((option) => option.textContent);
  };
  told.before = bar.hidden;
  prompt = () => "new";
  choose(0, 'd,o"g'); choose(1, "none of these"); choose(2, "another class…");
  told.words = bar.querySelector("span").textContent;
  told.file = bar.querySelector("a").download;
  told.csv = decodeURIComponent(bar.querySelector("a").href.split(",").slice(1).join(","));
  const dialog = document.getElementById("enlarged");
  document.querySelector(".photo img").click();
  told.open = dialog.open;
  told.picture = dialog.querySelector("p").textContent;
  document.body.click();
  told.closed = !dialog.open;
  bar.querySelector("button").click();
  told.after = bar.hidden;
  document.body.dataset.told = JSON.stringify(told);
});
</script>
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a page of three answers says after some clicks."""
    folder = tmp_path_factory.mktemp("page")
    predictions = []
    for number in range(3):
        path = folder / f"{number}.png"
        Image.fromarray(np.full((40, 40, 3), 80 * number, np.uint8)).save(path)
        predictions.append(Prediction(path, path, "cat", {"cat": 0.6 + number / 10, CLASSES[1]: 0.4 - number / 10}))
    page = folder / "page.html"
    write_predictions(page, predictions, CLASSES)
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text("utf-8"))
    assert len(open_page) < len(page.read_text("utf-8"))  # as it is, the page runs no script but its own
    page.write_text(open_page + CLICKS, "utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom",
         page.as_uri()], capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r'data-told="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def test_corrections_become_a_file(told):
    assert told["before"] is True
    assert told["options"] == ["It is …", "new", *CLASSES, "none of these", "another class…"]
    assert told["words"] == "3 corrections"
    assert told["file"] == "corrections.csv"
    lines = told["csv"].splitlines()
    assert lines[0] == "file,class"
    assert lines[1].endswith(',"d,o""g"')
    assert lines[2].endswith(",")
    assert lines[3].endswith(",new")
    assert told["after"] is True  # the corrections were taken back


def test_a_picture_is_enlarged_and_closed(told):
    assert told["open"] is True
    assert told["picture"]
    assert told["closed"] is True
