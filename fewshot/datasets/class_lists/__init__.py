"""Published class lists with their sources, as JSON files."""
