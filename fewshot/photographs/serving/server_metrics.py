"""What a server counts, as Prometheus reads it; no picture and no name of a file is kept."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one server.

    `content_type`: of what `format` gives.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        more: dict[str, Any] = {"registry": self._registry}
        labels = ("method", "route", "status")
        self._requests = Counter("fewshot_requests", "requests that were answered", labels, **more)
        self._seconds = Histogram(
            "fewshot_request_seconds", "from a request's header to its answer", ("route",), buckets=SECONDS, **more
        )
        self._batches = Histogram("fewshot_batch_pictures", "pictures of one encoder call", buckets=SIZES, **more)
        self._answers = Counter("fewshot_answers", "answers by class", ("label",), **more)
        self._classes = Gauge("fewshot_classes", "classes that are known", **more)

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; `status` 0: the client went before it was answered."""
        known = method if method in ("GET", "HEAD", "POST", "DELETE") else "other"
        self._requests.labels(known, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def note_batch(self, labels: list[str]) -> None:
        """Count the answers to pictures that were encoded in one call."""
        self._batches.observe(len(labels))
        for label in labels:
            self._answers.labels(label).inc()

    def note_classes(self, n_classes: int) -> None:
        """Say how many classes are known."""
        self._classes.set(n_classes)

    def format(self) -> bytes:
        """All numbers, in Prometheus' text format."""
        return generate_latest(self._registry)
