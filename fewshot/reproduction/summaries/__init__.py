"""Many runs in one table: grouped by what differs, averaged over seeds, compared on identical episodes."""

from fewshot.reproduction.summaries.groups import Line, Summary, summarize
from fewshot.reproduction.summaries.output import check_summary, format_summary, write_summary
from fewshot.reproduction.summaries.sources import Source, read_sources

__all__ = ["Line", "Source", "Summary", "check_summary", "format_summary", "read_sources", "summarize", "write_summary"]
