"""What the facade counts, for Prometheus; and how long one request waited and worked, for its answer's headers."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from talkies import __version__

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_OTHER = "other"
"""The label of paths and methods that are none of ours: a scanner must not make a series of every guess."""


@dataclass(slots=True)
class Work:
    """What one request did, in seconds; tries that were repeated add up."""

    model: str = ""
    queue: float = 0.0
    """Waited for a place in its model, for room in memory, or for a load that another request had begun."""
    load: float = 0.0
    """Loaded its model."""
    engine: float = 0.0
    """Had its place in tritonserver."""
    heard: float = 0.0
    """Audio that it brought."""
    spoken: float = 0.0
    """Audio that was made for it."""

    def server_timing(self) -> str:
        """The value of a `Server-Timing` header, which counts milliseconds."""
        parts = {"queue": self.queue, "load": self.load, "engine": self.engine}
        return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in parts.items())


_work: ContextVar[Work | None] = ContextVar("work", default=None)


def work() -> Work:
    """That of the running request, also in tasks that it started; outside of requests one that nobody reads."""
    return _work.get() or Work()


@contextmanager
def follow() -> Iterator[Work]:
    """Make a new `work()` for everything inside."""
    made = Work()
    token = _work.set(made)
    try:
        yield made
    finally:
        _work.reset(token)


class Metrics:
    """The counters of one facade. `models` are the slugs that may be labels."""

    def __init__(self, models: Container[str]) -> None:
        self._models = models
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._gauge("build_info", "What is running; always 1.", "version").labels(__version__).set(1)
        self._requests = self._counter("requests", "HTTP requests answered.", "route", "method", "status", "model")
        self._request_seconds = self._histogram(
            "request_seconds", "From a request's first byte to its answer's last.", "route", "model"
        )
        self.in_flight = Gauge("talkies_requests_in_flight", "HTTP requests being answered.", registry=self.registry)
        self._received = self._counter("received_bytes", "Bytes of request bodies.", "route")
        self._sent = self._counter("sent_bytes", "Bytes of answers' bodies.", "route")
        self._heard = self._counter("transcribed_audio_seconds", "Audio that was transcribed.", "model", "status")
        self._spoken = self._counter("spoken_audio_seconds", "Audio that was synthesized.", "model", "status")
        self._token_requests = self._counter(
            "token_requests", "HTTP requests by the name of their token.", "token", "status"
        )
        self._token_audio = self._counter("token_audio_seconds", "Audio transcribed and spoken for a token.", "token")

        self.waiting = self._gauge("waiting_requests", "Requests that wait for a place in their model.", "model")
        self.active = self._gauge("active_requests", "Requests that have a place in tritonserver.", "model")
        self.queued = Gauge("talkies_queued_requests", "Requests that wait, of all models.", registry=self.registry)
        self.running = Gauge("talkies_running_requests", "Requests at work, of all models.", registry=self.registry)
        self.residents = Info(
            "talkies_resident_models",
            "How many models may be in memory, which are, and which are waited for.",
            registry=self.registry,
        )
        self.overloads = self._counter("overloads", "Requests refused because the line was full.", "model")
        self.queue_seconds = self._histogram(
            "queue_seconds", "Waiting for a place, for room in memory or for another request's load.", "model"
        )
        self.engine_seconds = self._histogram("engine_seconds", "Having a place in tritonserver.", "model", "modality")
        self.load_seconds = self._histogram("model_load_seconds", "Loading a model.", "model")
        self.loads = self._counter("model_loads", "Model loads by result: ok or failed.", "model", "result")
        self.unloads = self._counter(
            "model_unloads", "Models unloaded by reason: room, idle, asked or broken.", "model", "reason"
        )

    def answered(
        self, route: str | None, method: str, status: int, seconds: float, done: Work, received: int, sent: int
    ) -> None:
        """Count one finished request; `route` is its template, None where no route took it."""
        route = route or _OTHER
        method = method if method in _METHODS else _OTHER
        model = done.model if done.model in self._models else ""
        self._requests.labels(route, method, status, model).inc()
        self._request_seconds.labels(route, model).observe(seconds)
        self._received.labels(route).inc(received)
        self._sent.labels(route).inc(sent)
        if done.heard:
            self._heard.labels(model, status).inc(done.heard)
        if done.spoken:
            self._spoken.labels(model, status).inc(done.spoken)

    def called(self, token: str, status: int, done: Work) -> None:
        """Count one finished request by the name of its token."""
        self._token_requests.labels(token, status).inc()
        self._token_audio.labels(token).inc(done.heard + done.spoken)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"talkies_{name}_total", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"talkies_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, *labels: str) -> Histogram:
        return Histogram(f"talkies_{name}", meaning, labels, registry=self.registry, buckets=_SECONDS)
