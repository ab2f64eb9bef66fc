"""Values that options allow and that the command line must know without importing torch."""

from typing import Literal

Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
