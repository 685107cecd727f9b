"""How a server is asked: values, checked."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from exaone_ros.errors import EngineError


def public_address(url: str) -> str:
    """Scheme, host, port and path of an address: what may be told of it in logs and on topics."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "?"
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"
    except ValueError:
        return "server"


@dataclass(frozen=True)
class ServerSettings:
    """How a server is asked.

    Attributes:
        url: of its API, e.g. ``http://robot-brain:8000/v1``.
        model: name of the model there.
        key_variable: environment variable that holds the API key; unset = a server that wants none. A key is never
            taken from anywhere else, so that none ends in a parameter file.
        timeout_s: seconds without anything from the server after which a try has failed.
        retries: more tries after a failed one, where there is time left and nobody has heard a part of the answer.
        backoff_s: before the first of them, doubled for each further one, half of it at random.
        concurrency: questions that are under way at the same time at most.
        breaker_failures: failed tries in a row that make the server degraded.
        breaker_cool_s: seconds between two tries then.
        jpeg_quality: of the images, 1 to 100.
        top_logprobs: alternatives asked for with each token, 0 to 20; 0 = no scores and probabilities.

    Raises:
        EngineError: a value is out of range.
    """

    url: str
    model: str
    key_variable: str = "EXAONE_SERVER_API_KEY"
    timeout_s: float = 30.0
    retries: int = 2
    backoff_s: float = 0.2
    concurrency: int = 8
    breaker_failures: int = 3
    breaker_cool_s: float = 5.0
    jpeg_quality: int = 92
    top_logprobs: int = 5

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or not _names_a_host(self.url):
            told = public_address(self.url) if "@" in self.url else self.url
            raise EngineError(f"server: url is {told!r}; expected http://HOST:PORT/v1 or https://...")
        if not self.model:
            raise EngineError("server: model is empty; expected the name under which the server serves it")
        for name, value, least, most in (
            ("timeout_s", self.timeout_s, 0.01, 3600), ("retries", self.retries, 0, 10),
            ("backoff_s", self.backoff_s, 0, 60), ("concurrency", self.concurrency, 1, 256),
            ("breaker_failures", self.breaker_failures, 1, 100), ("breaker_cool_s", self.breaker_cool_s, 0, 3600),
            ("jpeg_quality", self.jpeg_quality, 1, 100), ("top_logprobs", self.top_logprobs, 0, 20),
        ):  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                raise EngineError(f"server: {name} is {value!r}; expected {least} to {most}")

    @property
    def address(self) -> str:
        """The url without a user, a password or a query: for messages, which end in logs and on topics."""
        return public_address(self.url)


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0  # a port that is none raises
    except ValueError:
        return False
