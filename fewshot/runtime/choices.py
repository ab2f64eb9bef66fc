"""Types of options that the command line needs without importing torch."""

from typing import Literal

Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
