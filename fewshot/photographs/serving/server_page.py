"""The page on which people ask a server about photographs, and teach it classes."""

from fewshot.photographs.pages.html import read_asset, write_page


def write_server_page() -> str:
    """One HTML document, which talks to the server that it comes from and to no other."""
    return write_page("fewshot", read_asset("server.html"), read_asset("server.js"), connects=True)
