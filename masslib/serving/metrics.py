"""What `/metrics` tells: counters and histograms of prometheus_client, summed over the workers through shared files."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that prometheus_client reads when it is imported."""

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64)

registry = CollectorRegistry()
_of = ("model", "version")
_requests = Counter("masslib_requests", "Answered requests by protocol.", ["protocol", "status"], registry=registry)
_stage = Histogram(
    "masslib_stage_seconds",
    "Time of a request by stage: decode, queue, predict, total.",
    [*_of, "stage"],
    buckets=_SECONDS,
    registry=registry,
)
_batch = Histogram("masslib_batch_rows", "Rows per call of the model.", _of, buckets=_ROWS, registry=registry)
_predicted = Counter("masslib_predicted", "Answers by class.", [*_of, "class"], registry=registry)
_errors = Counter("masslib_errors", "Requests that failed, by kind.", ["kind"], registry=registry)
_shadow = Counter("masslib_shadow", "Answers of the shadow, compared.", [*_of, "same"], registry=registry)
_recorded = Counter(
    "masslib_recorded", "Answers kept, and dropped because too many waited.", ["what"], registry=registry
)
_waiting = Gauge("masslib_queue_rows", "Rows that wait.", _of, registry=registry, multiprocess_mode="livesum")
_drift = Gauge(
    "masslib_drift",
    "Distance of what came lately from the reference, by feature: psi, ks, rows.",
    [*_of, "feature", "measure"],
    registry=registry,
    multiprocess_mode="livemostrecent",
)
_restarts = Gauge("masslib_restarts", "Workers that died.", registry=registry, multiprocess_mode="livemax")
_serving = Gauge("masslib_version", "Versions that are loaded: 1.", [*_of, "labels"], registry=registry,
                 multiprocess_mode="livemax")  # fmt: skip

_by_status: dict[tuple[str, int], Counter] = {}


class Metrics:
    """The metrics of one version.

    Args:
        model: Its name.
        version: Its number.
        labels: Names of the classes, or None.
    """

    def __init__(self, model: str, version: int, labels: list[str] | None):
        own = (model, str(version))
        self.decode, self.queue, self.predict, self.total = (
            _stage.labels(*own, stage).observe for stage in ("decode", "queue", "predict", "total")
        )
        self._rows = _batch.labels(*own).observe
        self._classes = [_predicted.labels(*own, label) for label in labels or ()]
        self._same, self._other = (_shadow.labels(*own, same) for same in ("yes", "no"))
        self._own = own

    def batch(self, rows: int, seconds: float) -> None:
        """Count a call of the model."""
        self._rows(rows)
        self.predict(seconds)

    def predicted(self, number: int) -> None:
        """Count an answer by its class."""
        if number < len(self._classes):
            self._classes[number].inc()

    def shadowed(self, same: int, other: int) -> None:
        """Count answers of a shadow that are or are not those that were sent."""
        self._same.inc(same)
        self._other.inc(other)

    def show(self, waiting: int, drift: dict[str, dict[str, float]], labels: str) -> None:
        """Set what is only known when it is asked for."""
        _waiting.labels(*self._own).set(waiting)
        _serving.labels(*self._own, labels).set(1)
        for feature, measures in drift.items():
            for measure, value in measures.items():
                _drift.labels(*self._own, feature, measure).set(value)


def answered(protocol: str, status: int) -> None:
    """Count a response."""
    key = (protocol, status)
    if key not in _by_status:
        _by_status[key] = _requests.labels(protocol, str(status))
    _by_status[key].inc()


def total() -> int:
    """Rows that all workers have answered."""
    return int(
        sum(
            sample.value
            for family in _collected().collect()
            if family.name == "masslib_batch_rows"
            for sample in family.samples
            if sample.name == "masslib_batch_rows_sum"
        )
    )


def failed(kind: str) -> None:
    """Count an error."""
    _errors.labels(kind).inc()


def recorded(kept: int, dropped: int) -> None:
    """Count what the recorder did."""
    _recorded.labels("kept").inc(kept)
    _recorded.labels("dropped").inc(dropped)


def text(restarts: int) -> tuple[bytes, str]:
    """The metrics of all workers and their content type."""
    _restarts.set(restarts)
    return generate_latest(_collected()), CONTENT_TYPE_LATEST


def _collected() -> CollectorRegistry:
    """The metrics of all workers, or of this process alone."""
    if FOLDER not in os.environ:
        return registry
    found = CollectorRegistry()
    multiprocess.MultiProcessCollector(found)
    return found


def forget(pid: int) -> None:
    """Drop the gauges of a worker that has died."""
    multiprocess.mark_process_dead(pid)
