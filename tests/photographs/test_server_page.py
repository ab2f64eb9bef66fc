"""The server's page in a browser, at the width of a phone too: photographs are answered, classes added and removed."""

import pytest

pytest.importorskip("httpx", reason="the tests' client is not installed: pip install 'fewshot[test]'")

from browser import CHROMIUM, Browser
from test_export import COLOURS, draw_coin
from test_server import TOKEN, YELLOW, Served, exported, folder  # noqa: F401 - two are fixtures

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page with")
ANSWERS = """[...document.querySelectorAll("#answers article")].map((article) =>
    [article.querySelector("h2").firstChild.textContent.trim(), article.querySelector(".path").textContent])"""
CLASSES = '[...document.querySelectorAll("#classes li span")].map((name) => name.textContent)'
DONE = """[...document.querySelectorAll("#answers h2")].filter((head) => head.textContent !== "…").length === %d"""


@pytest.mark.parametrize("width", [1000, 390])
def test_a_person_asks_and_teaches(folder, tmp_path, width):  # noqa: F811
    pictures = {name: tmp_path / f"{number}.png" for number, name in enumerate(COLOURS)}
    for name, path in pictures.items():
        draw_coin(COLOURS[name], 11).save(path)
    (tmp_path / "notes.jpg").write_text("no picture")
    yellow = [tmp_path / f"yellow {number}.png" for number in range(3)]
    for number, path in enumerate(yellow):
        draw_coin(YELLOW, number).save(path)
    with Served(folder) as served, Browser(tmp_path / "profile", width) as page:
        page.open(f"http://127.0.0.1:{served.port}/#token={TOKEN.replace(' ', '%20')}")
        assert TOKEN not in page.run("location.href")
        page.choose_files("#files", [*pictures.values(), tmp_path / "notes.jpg"])
        page.wait_for(DONE % 4)
        answers = dict(reversed(pair) for pair in page.run(ANSWERS))
        expected = {answer["photo"]: answer["label"] for answer in ask(served, pictures.values())}
        assert answers == expected | {"notes.jpg": "no answer"}
        assert "notes.jpg: this is no image" in page.run('document.querySelector(".failed .truth").textContent')

        page.run('document.querySelector("summary").click()')
        page.wait_for(f"{CLASSES}.length === 3")
        page.choose_files("#more", yellow)
        page.run('$("name").value = "yellow <b>"; $("learn").click()')
        page.wait_for(f"{CLASSES}.length === 4")
        assert page.run(CLASSES) == [*COLOURS, "yellow <b>"] == served.client.get("/classes").json()["classes"]
        page.choose_files("#camera", [yellow[0]])
        page.wait_for(DONE % 5)
        assert page.run(ANSWERS)[0] == ["yellow <b>", "yellow 0.png"]
        page.run("""[...document.querySelectorAll("#classes li")].at(-1).querySelector("button").click()""")
        page.wait_for(f"{CLASSES}.length === 3")
        assert served.client.get("/classes").json()["classes"] == [*COLOURS]
        assert page.run("document.documentElement.scrollWidth") <= width


def test_a_wrong_token_is_told(folder, tmp_path):  # noqa: F811
    draw_coin(YELLOW, 1).save(tmp_path / "yellow.png")
    with Served(folder) as served, Browser(tmp_path / "profile") as page:
        page.open(f"http://127.0.0.1:{served.port}/#token=wrong")
        page.run('document.querySelector("summary").click()')
        page.choose_files("#more", [tmp_path / "yellow.png"])
        page.run('$("name").value = "yellow"; $("learn").click()')
        page.wait_for('$("told").textContent.includes("token")')
        assert served.client.get("/classes").json()["classes"] == [*COLOURS]


def ask(served, paths):
    files = [("photos", (path.name, path.read_bytes())) for path in paths]
    return served.client.post("/predict", files=files).json()["answers"]
