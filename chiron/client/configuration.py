"""Where the gateway is and with which key we speak to it: environment first, then `config.toml`."""

import json
import os
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from chiron.client.errors import ConfigurationInvalid, ConfigurationMissing, RecordUnusable

HOME_VARIABLE = "CHIRON_HOME"
"""Environment variable that moves the owner's configuration and store."""
URL_VARIABLE = "CHIRON_URL"
KEY_VARIABLE = "CHIRON_API_KEY"
_URL = re.compile(r"https?://\S+")


@dataclass(frozen=True)
class Configuration:
    """Settings of the client; the file may leave any out."""

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    api_key_file: Path | None = None
    """A 0600 file that holds the API key; kept apart so that the configuration can be shared."""
    machines: str | None = None
    """Names of machines, with commas between: what `chiron train` without `--machines` takes."""

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


def default_home() -> Path:
    """`$CHIRON_HOME`, or the platform's configuration directory (on Linux `~/.config/chiron`)."""
    chosen = os.environ.get(HOME_VARIABLE)
    return Path(chosen) if chosen else user_config_path("chiron")


def config_path() -> Path:
    """The configuration file, which need not exist."""
    return default_home() / "config.toml"


def load_configuration() -> Configuration:
    """The configuration of the environment and the file; the environment wins.

    Raises:
        ConfigurationInvalid: the file or a value is malformed.
        RecordUnusable: the file holds an API key and can be read by others.
    """
    settings = _settings_of(config_path())
    for name, variable in (("url", URL_VARIABLE), ("api_key", KEY_VARIABLE)):
        if value := os.environ.get(variable):
            settings[name] = value
    return _checked(settings)


def _settings_of(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        settings = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(f"{path} is not TOML") from error
    if "api_key" in settings:
        refuse_exposed(path)
    return settings


def keep_key(key: str, path: Path | None = None) -> tuple[Path, bool]:
    """Write a new API key to a 0600 file; where it is, and whether the configuration names it now.

    A configuration that names another key stays as it is: that key is the one that works today.

    Raises:
        ConfigurationInvalid: there is such a file already, or it cannot be written.
        RecordUnusable: as `load_configuration`.
    """
    configured, chosen = config_path(), (path or default_home() / "api.key").absolute()
    used = not _settings_of(configured).keys() & {"api_key", "api_key_file"}
    try:
        for place in (chosen, configured):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(chosen, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{key}\n")
        if used:
            before = configured.read_text() if configured.exists() else ""
            # What JSON writes of a string, TOML reads as the same.
            named = f"api_key_file = {json.dumps(str(chosen))}\n"
            configured.write_text(before + ("\n" if before and not before.endswith("\n") else "") + named)
    except FileExistsError:
        raise ConfigurationInvalid(f"{chosen} exists: name another file, and let it take its place") from None
    except OSError as error:
        raise ConfigurationInvalid(f"{chosen} cannot be written: {error.strerror}") from error
    return chosen, used


def _checked(settings: dict[str, Any]) -> Configuration:
    """Checked by hand: a model's library takes longer to import than everything else before a connection."""
    known = {setting.name for setting in fields(Configuration)}
    wrong = [name for name, value in settings.items() if name not in known or not isinstance(value, str)]
    if "url" not in wrong and not _URL.fullmatch(settings.get("url", "http://-")):
        wrong.append("url")
    if wrong:
        # Names only: one of the values may be the key.
        raise ConfigurationInvalid(f"settings that cannot be used: {', '.join(wrong)}")
    key_file = settings.get("api_key_file")
    return Configuration(
        settings.get("url"),
        settings.get("api_key"),
        None if key_file is None else Path(key_file),
        settings.get("machines"),
    )


def refuse_exposed(path: Path) -> None:
    """Refuse a secret that others can read, as ssh does.

    Raises:
        RecordUnusable: group or others have any access, or it is another user's.
    """
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise RecordUnusable(f"{path} belongs to another user, who can put there what they like")
    if found.st_mode & 0o077:
        raise RecordUnusable(f"{path} can be read by others: run chmod 600 on it")
