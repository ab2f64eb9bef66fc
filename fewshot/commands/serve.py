"""`fewshot serve`: an exported classifier answers over HTTP."""

from fewshot.config import ServeConfig
from fewshot.photographs.serving.serving import serve


def run(config: ServeConfig) -> None:
    """Serve an exported classifier until it is stopped.

    Args:
        config: the options of the subcommand.
    """
    serve(config)
