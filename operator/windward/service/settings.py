"""The operator's settings: environment variables with the prefix WINDWARD_, checked once at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from windward_api.managed import PREFIX, words_of


class Settings(BaseSettings):
    """What an administrator sets, by the chart's values."""

    model_config = SettingsConfigDict(env_prefix="WINDWARD_", frozen=True)

    database_url: SecretStr = Field(SecretStr("sqlite:////data/book.db"), description="Ledger: SQLite or PostgreSQL.")
    mode: Literal["Auto", "Observe", "Act"] = Field(
        "Auto", description="Observe delays nothing; Auto observes on the bundled demo trace and acts on all else."
    )
    provider: str = Field("trace", description="Source of carbon data; several, joined by commas, in order of trust.")
    trace_file: Path | None = Field(
        None, description="Recording for the trace provider; without one, the bundled demo."
    )
    worker_image: str = Field("ghcr.io/windward-dev/windward-worker:0.1.0", description="Image of the shared runtime.")
    worker_image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    storage_claim: str = Field("windward-storage", description="Claim that train and infer use without spec.storage.")
    resync_seconds: int = Field(30, ge=1, le=600, description="All objects are looked at at least this often.")
    forecast_seconds: int = Field(900, ge=10, le=86_400, description="Forecasts are refreshed this often.")
    namespaces: Annotated[tuple[str, ...], NoDecode] = Field((), description="Comma list; empty: all namespaces.")
    managed: bool = Field(True, description="Whether workloads of others that carry our label are looked after.")
    managed_defaults: dict[str, str] = Field(
        {}, description="Words of managed workloads where neither object nor namespace says them, as a JSON object."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    http_port: int = Field(8080, ge=1, le=65535, description="Health and metrics.")

    @property
    def observes(self) -> bool:
        """Whether every job runs at once and plans are only shown, as work must not wait on demonstration data."""
        demo = self.provider == "trace" and self.trace_file is None
        return self.mode == "Observe" or (self.mode == "Auto" and demo)

    @field_validator("managed_defaults")
    @classmethod
    def _known_words(cls, words: dict[str, str]) -> dict[str, str]:
        return words_of({f"{PREFIX}{word}": text for word, text in words.items()})

    @field_validator("namespaces", mode="before")
    @classmethod
    def _comma_list(cls, text: object) -> object:
        return tuple(n.strip() for n in text.split(",") if n.strip()) if isinstance(text, str) else text
