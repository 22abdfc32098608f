"""Every `TALKIES_*` variable, once: name, default, meaning. Values are validated here and frozen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from talkies.dialect import Rule
from talkies.errors import StartupError

PROJECT = Path(__file__).resolve().parents[2]
"""The checkout (or the image's copy of it): `models.json` and `model_repository/` lie here."""

_NVIDIA = Path("/dev/nvidiactl")
"""There where NVIDIA's driver is loaded, in a container too if it was given a GPU."""
_DURATION = re.compile(r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?")


def _seconds(value: Any) -> Any:
    """ "3h30m5s" as seconds; plain numbers pass through."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip().lower())) and any(match.groups()):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds
    return value


def _comma_list(value: Any) -> Any:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _is_service_link(name: str, value: Any) -> bool:
    return name.endswith("port") and isinstance(value, str) and re.match(r"(tcp|udp|sctp)://", value) is not None


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]


def _comma_secrets(value: Any) -> Any:
    return [SecretStr(item) for item in items] if isinstance(items := _comma_list(value), list) else value


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_list)]
CommaSecrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_comma_secrets)]


class Settings(BaseSettings):
    """What an operator can set. Seconds may be written "90", "1m30s" or "3h"; lists are comma-separated."""

    model_config = SettingsConfigDict(env_prefix="TALKIES_", frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address the HTTP API listens on.")
    grpc_host: str = Field("127.0.0.1", description="Address Triton's gRPC endpoint listens on.")
    metrics_host: str = Field("", description="Address tritonserver's metrics listen on; empty: that of the HTTP API.")
    port: int = Field(8000, ge=1, le=65535, description="Port of the HTTP API.")
    grpc_port: int = Field(8001, ge=1, le=65535, description="Port of the embedded tritonserver's gRPC endpoint.")
    metrics_port: int = Field(8002, ge=1, le=65535, description="Port of the embedded tritonserver's metrics.")
    triton_url: str = Field("", description="host:port of an outside tritonserver's gRPC endpoint; empty starts one.")
    tritonserver: Path | None = Field(
        None, description="The program to start, such as that of NVIDIA's image; none: that of the wheel."
    )
    triton_log: Literal["file", "stderr"] = Field(
        "file", description="Where the embedded tritonserver's log goes: `run/tritonserver.log` or standard error."
    )
    triton_admin_key: SecretStr = Field(
        SecretStr(""), description="Key of tritonserver's restricted repository API; empty makes one for an own server."
    )

    grpc_key: SecretStr = Field(
        SecretStr(""), description="Key that inference over gRPC needs; empty leaves it open. An outside Triton's too."
    )
    path_key: SecretStr = Field(
        SecretStr(""), description="Key with which talkies names files by path; an outside Triton's environment has it."
    )
    auth_token: CommaSecrets = Field(
        (), description="Bearer tokens that requests need, comma-separated; empty lets everyone in."
    )
    auth_file: Path | None = Field(
        None, description="File of further tokens with scopes and limits: `talkies token add`."
    )
    public_lists: bool = Field(
        False, description="Answer the lists of models and voices without a token, as Open WebUI asks for them."
    )
    cors_origins: CommaList = Field((), description='Origins whose web pages may call the API; "*" for all.')

    data_dir: Path = Field(Path("data"), description="Weights, environments, staged files and the served repository.")
    envs_dir: Path | None = Field(
        None,
        description="Engine environments; where it can only be read, others are built in `envs` of the data directory.",
    )
    weights_dir: Path | None = Field(
        None, description="Weights that are only read, beside those in `models` of the data directory."
    )
    engines_dir: Path | None = Field(None, description="Folder of further engines, beside those that come along.")
    models_file: Path = Field(PROJECT / "models.json", description="The model registry.")
    enabled_models: CommaList = Field((), description="Slugs to serve; empty serves the whole registry.")
    preload: CommaList = Field((), description="Slugs to load at start.")
    default_asr_model: str = Field(
        "", description="What `whisper-1` and the CLI mean; empty: the first that transcribes."
    )
    default_tts_model: str = Field("", description="What `tts-1` and the CLI mean; empty: the first that speaks.")
    dialect: Rule = Field(
        Rule.AUTO,
        description="auto (OpenAI's exact answers under OpenAI's model names), openai or description (always one).",
    )
    openai_voices: bool = Field(
        False, description="Let OpenAI's voice names stand for voices of the model under every model name."
    )

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto (a GPU that is there and that the engine can use), cpu, cuda or cuda:N.",
    )
    allow_slow_cpu: bool = Field(
        False, description="Let engines that are of no use without a GPU run on the CPU all the same."
    )
    cpu_threads: int = Field(0, ge=0, description="Threads of a CPU engine; 0 is one per core this process may use.")
    max_loaded_models: int = Field(1, ge=1, description="Models resident at the same time; the least recent goes.")
    model_ttl: Seconds = Field(600, description="Idle seconds before a model is unloaded; 0 keeps it.")
    sweeper_interval: Seconds = Field(60, description="Seconds between two looks for idle models.")
    load_timeout: Seconds = Field(300, gt=0, description="Longest a model load may take.")
    request_timeout: Seconds = Field(3600, gt=0, description="Longest a transcription or speech may take.")
    hang_timeout: Seconds = Field(
        30,
        gt=0,
        description="Seconds of silence after which the embedded tritonserver is replaced, an outside one given up.",
    )
    drain_delay: Seconds = Field(
        0, description="After SIGTERM, how long `/readyz` says so before new connections are refused."
    )
    drain_timeout: Seconds = Field(30, description="After SIGTERM, how long running requests may still take.")
    max_concurrency: int = Field(16, ge=1, description="Requests of one model that run in Triton at the same time.")
    max_queue: int = Field(128, ge=0, description="Requests of one model that may wait; beyond: 503.")

    max_upload_bytes: int = Field(104_857_600, gt=0, description="Largest uploaded file.")
    max_download_bytes: int = Field(1 << 30, gt=0, description="Largest file fetched from a URL.")
    files_ttl: Seconds = Field(
        0, description="Seconds without use after which staged and fetched files go; 0 keeps them."
    )
    files_max_bytes: int = Field(
        0, ge=0, description="What all of them may take; the least recently used goes. 0: any."
    )
    block_private_downloads: bool = Field(
        False, description="Refuse URLs whose host is private, loopback, multicast or reserved; link-local always is."
    )
    max_audio_seconds: Seconds = Field(21_600, gt=0, description="Longest audio after decoding.")
    vad_chunk_threshold: Seconds = Field(30.0, description="Audio up to this long is one chunk.")
    vad_max_speech: Seconds = Field(28.0, gt=0, description="Longest chunk cut from longer audio.")
    vad_min_silence_ms: int = Field(500, ge=0, description="Silence that ends a stretch of speech.")
    vad_speech_pad_ms: int = Field(200, ge=0, description="Audio kept around a stretch of speech.")
    vad_threshold: float = Field(0.5, gt=0, lt=1, description="Speech probability that counts as speech.")

    log_content: bool = Field(False, description="Log transcripts and input texts too.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")

    @model_validator(mode="before")
    @classmethod
    def _without_service_links(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Kubernetes makes variables of services' names: of the service "talkies" a TALKIES_PORT=tcp://10.9.8.7:80."""
        return {name: value for name, value in values.items() if not _is_service_link(name, value)}

    @field_validator("data_dir", "envs_dir", "weights_dir", "engines_dir", "models_file", "auth_file", "tritonserver")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().resolve() if value else value

    @classmethod
    def load(cls, **values: Any) -> Settings:
        """Settings from `values`, else the environment. Raises StartupError naming the first bad variable."""
        try:
            settings = cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = "_".join(str(part) for part in first["loc"]).upper()
            raise StartupError(f"TALKIES_{field}: {first['msg']}") from None
        if len(settings.preload) > settings.max_loaded_models:
            raise StartupError(
                f"TALKIES_PRELOAD names {len(settings.preload)} models, but TALKIES_MAX_LOADED_MODELS has room for "
                f"{settings.max_loaded_models}."
            )
        return settings

    @property
    def resolved_device(self) -> str:
        """ "cpu" or "cuda:N"; auto is the first GPU if NVIDIA's driver is loaded."""
        auto = "cuda:0" if _NVIDIA.exists() else "cpu"
        return {"auto": auto, "cuda": "cuda:0"}.get(self.device, self.device)

    @property
    def metrics_address(self) -> str:
        """Where tritonserver's metrics listen."""
        return self.metrics_host or self.host

    @property
    def envs(self) -> Path:
        """Where environments are built, if that can be written."""
        return self.envs_dir or self.data_dir / "envs"

    @property
    def all_envs(self) -> tuple[Path, ...]:
        """Where they are looked for, in this order."""
        return tuple(dict.fromkeys((self.envs, self.data_dir / "envs")))

    @property
    def repository(self) -> Path:
        """The rendered model repository that tritonserver serves."""
        return self.data_dir / "repository"

    @property
    def files(self) -> Path:
        """Staged files, by their path in the API."""
        return self.data_dir / "files"

    @property
    def custom_voices(self) -> Path:
        """Reference clips of the user, besides those that come with the engine."""
        return self.data_dir / "custom-voices"

    @property
    def uploads(self) -> Path:
        """Uploads of running requests, read by the models and deleted with the request."""
        return self.data_dir / "uploads"


def address(host: str, port: int) -> str:
    """`host:port` at which this machine reaches what it listens on at that address."""
    everywhere = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104
    return f"{bracketed(everywhere.get(host, host))}:{port}"


def bracketed(host: str) -> str:
    """As it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
