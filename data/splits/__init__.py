"""Published class lists with their sources; installed as the package `fewshot.class_lists`."""
