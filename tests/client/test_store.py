"""The owner's secrets on disk, and the settings: private, strict, and silent about their content."""

from pathlib import Path

import pytest

from chiron.client.configuration import HOME_VARIABLE, KEY_VARIABLE, URL_VARIABLE, load_configuration
from chiron.client.datasets import ArraySource, Encrypted, EncryptOptions, encrypt
from chiron.client.errors import (
    ConfigurationInvalid,
    ConfigurationMissing,
    RecordMissing,
    RecordUnusable,
    SourceInvalid,
)
from chiron.client.store import OwnerStore
from chiron.client.verifying import policy_of
from chiron.wire.errors import ChironError

SECRET = "chiron_0123456789abcdef_" + "s" * 43


def encrypted(tmp_path: Path, name: str = "bundle") -> tuple[OwnerStore, Encrypted]:
    store = OwnerStore(tmp_path / "home")
    source = ArraySource([[0.5], [1.5], [2.5], [3.5]], ["a", "b", "a", "b"])
    return store, encrypt(source, tmp_path / name, store, EncryptOptions(held_out_percent=25))


def test_every_secret_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    store, made = encrypted(tmp_path)
    files = list((tmp_path / "home").rglob("*"))
    assert made.record_path in files
    assert made.record.held_out in files
    for path in [tmp_path / "home", *files]:
        assert path.stat().st_mode & 0o077 == 0
    assert store.dataset(made.record.manifest.dataset_id) == made.record
    assert list(store.datasets()) == [made.record]


def test_the_bundle_holds_neither_key_nor_class_names_nor_plaintext(tmp_path: Path) -> None:
    _, made = encrypted(tmp_path)
    import base64

    content = b"".join(path.read_bytes() for path in made.bundle.root.iterdir())
    assert made.record.class_names == ("a", "b")
    assert made.record.key not in content
    assert base64.b64encode(made.record.key) not in content
    assert b'"a"' not in content
    assert b"data_offsets" not in content


def test_two_encryptions_of_the_same_data_share_nothing(tmp_path: Path) -> None:
    _, one = encrypted(tmp_path)
    _, two = encrypted(tmp_path, "again")
    assert one.record.key != two.record.key
    assert one.record.manifest.dataset_id != two.record.manifest.dataset_id
    assert set(one.record.manifest.chunk_sha256).isdisjoint(two.record.manifest.chunk_sha256)


def test_a_bundle_is_never_written_over(tmp_path: Path) -> None:
    encrypted(tmp_path)
    with pytest.raises(SourceInvalid) as caught:
        encrypted(tmp_path)
    assert caught.value.code == "destination-exists"


def test_a_failed_encryption_leaves_nothing_behind(tmp_path: Path) -> None:
    rows = [[0.0]] * 40 + [[float("nan")]]
    with pytest.raises(SourceInvalid):
        encrypt(ArraySource(rows, [0, 1] * 20 + [1]), tmp_path / "out", OwnerStore(tmp_path / "home"))
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "home").rglob("*.json"))


def test_a_record_that_others_can_read_is_refused(tmp_path: Path) -> None:
    store, made = encrypted(tmp_path)
    made.record_path.chmod(0o640)
    with pytest.raises(RecordUnusable, match="chmod 600"):
        store.dataset(made.record.manifest.dataset_id)


def test_a_damaged_record_is_refused_without_quoting_it(tmp_path: Path) -> None:
    store, made = encrypted(tmp_path)
    text = made.record_path.read_text().replace('"version"', '"versoin"')
    made.record_path.write_text(text)
    with pytest.raises(RecordUnusable) as caught:
        store.dataset(made.record.manifest.dataset_id)
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["0" * 32, "../../etc/passwd", "", "."])
def test_no_name_leads_out_of_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordMissing):
        OwnerStore(tmp_path).dataset(name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    for variable in (URL_VARIABLE, KEY_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def test_the_environment_wins_over_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_file = home / "api.key"
    key_file.write_text(SECRET + "\n")
    key_file.chmod(0o600)
    (home / "config.toml").write_text(f'url = "http://file"\napi_key_file = "{key_file}"\n')
    assert (load_configuration().gateway_url(), load_configuration().gateway_key()) == ("http://file", SECRET)
    monkeypatch.setenv(URL_VARIABLE, "https://environment/")
    monkeypatch.setenv(KEY_VARIABLE, "other")
    assert (load_configuration().gateway_url(), load_configuration().gateway_key()) == (
        "https://environment",
        "other",
    )


def test_what_is_not_configured_is_named(home: Path) -> None:
    with pytest.raises(ConfigurationMissing, match="CHIRON_URL"):
        load_configuration().gateway_url()
    with pytest.raises(ConfigurationMissing, match="CHIRON_API_KEY"):
        load_configuration().gateway_key()


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("not toml", 0o600),
        (f'url = "ftp://x"\napi_key = "{SECRET}"', 0o600),
        (f'api_kye = "{SECRET}"', 0o600),
        (f'api_key = "{SECRET}"', 0o644),
    ],
)
def test_settings_that_cannot_be_used_are_refused_without_telling_the_key(
    home: Path, text: str, mode: int
) -> None:
    (home / "config.toml").write_text(text)
    (home / "config.toml").chmod(mode)
    with pytest.raises(ChironError) as caught:
        load_configuration()
    assert isinstance(caught.value, ConfigurationInvalid | RecordUnusable)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)


def test_a_configuration_does_not_show_its_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    assert SECRET not in repr(load_configuration())


def test_a_policy_file_and_its_mistakes(tmp_path: Path) -> None:
    good = tmp_path / "policy.json"
    good.write_text('{"measurements": ["' + "a" * 64 + '"], "minimum_svn": 2}')
    assert policy_of(file=good).minimum_svn == 2
    for digest in ("B" * 64, f"0x{'b' * 64}"):
        assert policy_of([digest], file=good).measurements == {"b" * 64}
    assert policy_of(["B" * 64], file=good).minimum_svn == 2
    for text in ("", "{}", '{"measurements": ["xyz"]}', '{"measurement": []}'):
        good.write_text(text)
        with pytest.raises(ConfigurationInvalid):
            policy_of(file=good)
    with pytest.raises(ConfigurationInvalid):
        policy_of(["abc"])
    with pytest.raises(ConfigurationInvalid):
        policy_of(["a" * 64], software_root=tmp_path / "missing.pem")
    (tmp_path / "root.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigurationInvalid):
        policy_of(["a" * 64], software_root=tmp_path / "root.pem")
