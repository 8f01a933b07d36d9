"""Where the gateway is and with which key we speak to it: environment first, then `config.toml`."""

import os
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chiron.client.errors import ConfigurationInvalid, ConfigurationMissing
from chiron.client.store import default_home, refuse_exposed

URL_VARIABLE = "CHIRON_URL"
KEY_VARIABLE = "CHIRON_API_KEY"


class Configuration(BaseModel):
    """Settings of the client; the file may leave any out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    api_key: str | None = Field(default=None, repr=False)
    api_key_file: Path | None = None
    """A 0600 file that holds the API key; kept apart so that the configuration can be shared."""

    def gateway_url(self) -> str:
        """Base URL of the gateway.

        Raises:
            ConfigurationMissing: none was given.
        """
        if self.url is None:
            raise ConfigurationMissing(f"no gateway address: set {URL_VARIABLE}, or url in {config_path()}")
        return self.url.rstrip("/")

    def gateway_key(self) -> str:
        """The API key.

        Raises:
            ConfigurationMissing: none was given.
            RecordUnusable: its file can be read by others.
        """
        if self.api_key:
            return self.api_key
        if self.api_key_file is None:
            raise ConfigurationMissing(f"no API key: set {KEY_VARIABLE}, or api_key_file in {config_path()}")
        try:
            refuse_exposed(self.api_key_file)
            return self.api_key_file.read_text().strip()
        except OSError as error:
            raise ConfigurationMissing(f"the API key file {self.api_key_file} cannot be read") from error


def config_path() -> Path:
    """The configuration file, which need not exist."""
    return default_home() / "config.toml"


def load_configuration() -> Configuration:
    """What the environment and the file say; the environment wins.

    Raises:
        ConfigurationInvalid: the file or a value is malformed.
        RecordUnusable: the file holds an API key and can be read by others.
    """
    path = config_path()
    settings: dict[str, object] = {}
    if path.exists():
        try:
            settings = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationInvalid(f"{path} is not TOML") from error
        if "api_key" in settings:
            refuse_exposed(path)
    for name, variable in (("url", URL_VARIABLE), ("api_key", KEY_VARIABLE)):
        if value := os.environ.get(variable):
            settings[name] = value
    try:
        return Configuration.model_validate(settings)
    except ValidationError as error:
        fields = ", ".join(str(problem["loc"][0]) for problem in error.errors())
        # From None: the validation error quotes values, and one of them may be the key.
        raise ConfigurationInvalid(f"settings that cannot be used: {fields}") from None
