"""Opens every page of the built site, and the README, in headless Chromium at the widths of a desk and of a phone.

`make docs` first. Fails where a page is wider than its window, a picture is missing or a page has an error of its
scripts; pictures of all pages lie in build/pages afterwards, to be looked at.
"""

import base64
import functools
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import markdown

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser  # noqa: E402 - of the tests

SIZES = {"desk": (1280, 900), "phone": (390, 800)}
MISSING = "[...document.images].filter((image) => image.complete && !image.naturalWidth).map((image) => image.src)"
LOADED = "[...document.images].every((image) => image.complete)"
LOOKS = "font: 16px/1.5 system-ui; max-width: 830px; margin: 2em auto; padding: 0 1em; overflow-wrap: anywhere"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


def render_readme() -> str:
    """The README as a page, for a look at its length and pictures."""
    body = markdown.markdown((ROOT / "README.md").read_text("utf-8"), extensions=["tables", "fenced_code"])
    style = f"body {{{LOOKS}}} img {{max-width: 100%}} pre, table {{overflow-x: auto; display: block}}"
    size = '<meta name="viewport" content="width=device-width">'
    return f'<!doctype html><meta charset="utf-8">{size}<title>README</title><style>{style}</style>{body}'


def look_at(page: Browser, address: str, width: int, picture: Path) -> list[str]:
    """Open a page, keep a picture of all of it, and return what is wrong."""
    page.open(address)
    page.run("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    page.wait_for(LOADED)
    wrong = [f"{address}: {source} is missing" for source in page.run(MISSING)]
    wide = page.run("document.documentElement.scrollWidth")
    if wide > width:
        wrong.append(f"{address}: {wide} px wide in a window of {width}")
    high = page.run("document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": width, "height": min(high, 8000), "scale": 1}
    said = page.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(base64.b64decode(said["data"]))
    return wrong


def main() -> None:
    """Look at all pages; the exit status is 1 where something is wrong."""
    site, out = ROOT / "build" / "site", ROOT / "build" / "pages"
    pages = sorted(site.rglob("index.html"))
    if not pages:
        sys.exit("there is no site: make docs")
    readme = ROOT / "readme-as-a-page.html"
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(ROOT)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home, wrong = f"http://127.0.0.1:{server.server_port}", []
    readme.write_text(render_readme(), "utf-8")
    try:
        for name, (width, height) in SIZES.items():
            with tempfile.TemporaryDirectory() as profile, Browser(Path(profile), width, height) as page:
                for file in (readme, *pages):
                    place = file.relative_to(ROOT)
                    title = "README" if file == readme else "_".join(file.parent.relative_to(site).parts) or "start"
                    wrong += look_at(page, f"{home}/{place.as_posix()}", width, out / name / f"{title}.png")
    finally:
        readme.unlink()
    print("\n".join(wrong) or f"{len(pages) + 1} pages fit both widths and miss no picture; pictures: {out}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
