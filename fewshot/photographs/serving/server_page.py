"""Writes the web page on which people ask about photographs and add classes."""

from fewshot.photographs.pages.html import read_asset, write_page


def write_server_page() -> str:
    """Write the HTML document, which talks only to the server that it comes from."""
    return write_page("fewshot", read_asset("server.html"), read_asset("server.js"), connects=True)
