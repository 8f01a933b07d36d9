"""`chiron keys`: API keys, made and ended by whoever runs a gateway, or made by an owner for herself."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from chiron.cli.options import Json, group, time_named
from chiron.cli.output import done, note, print_json, print_table
from chiron.cli.serve import STATE_DIR

if TYPE_CHECKING:
    from chiron.api.keys import KeyRing
    from chiron.api.storage.tables import KeyRow

app = group("API keys of a gateway that runs on this machine; and a key of your own, for any.")
_Result = TypeVar("_Result")
RoleName = Literal["owner", "operator", "auditor"]
Tenant = Annotated[str, typer.Option(help="Whose key: lower-case letters, digits and hyphens.")]
RoleOption = Annotated[RoleName, typer.Option("--role", help="What it is for.")]
Expires = Annotated[
    str | None, typer.Option(metavar="DATE|DAYS", help="The last day that it holds (UTC), or for how many.")
]
Label = Annotated[str | None, typer.Option(help="A note that `chiron keys list` shows.")]
Overlap = Annotated[
    int, typer.Option("--overlap", min=0, metavar="HOURS", help="How long the old key still holds.")
]
StateDir = Annotated[Path, typer.Option(help="The gateway's directory.")]


@app.command("create")
def create_command(
    tenant: Tenant,
    role: RoleOption = "owner",
    expires: Expires = None,
    label: Label = None,
    state_dir: StateDir = STATE_DIR,
    json: Json = False,
) -> None:
    """Make an API key; it is printed once, on stdout, and stored nowhere in the clear.

    An owner whose key you should not know makes it herself: `chiron keys request`.

    **Example**: `chiron keys create --tenant clinic-a --role owner --expires 90 > clinic-a.key`

    **Example**: `chiron keys create --tenant clinic-a --role auditor --expires 2027-01-31`
    """
    from chiron.api.keys import TenantRole

    until = _until(expires)
    key = _with_keys(
        state_dir, lambda keys: keys.create(tenant, TenantRole(role), expires_at=until, label=label)
    )
    _tell_key(key, {"tenant": tenant, "role": role, "expires_at": until}, as_json=json)


@app.command("list")
def list_command(state_dir: StateDir = STATE_DIR, json: Json = False) -> None:
    """List the gateway's keys: whose they are, how long they hold, when they were last used.

    **Example**: `chiron keys list`
    """
    rows = _with_keys(state_dir, lambda keys: keys.listed())
    found = [_described(row) for row in rows]
    if json:
        print_json(found)
        return
    columns = ["id", "tenant", "role", "state", "expires", "last used", "created", "label"]
    print_table(columns, [[entry[name.replace(" ", "_")] or "-" for name in columns] for entry in found])


@app.command("revoke")
def revoke_command(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of keys (`chiron keys list`).")],
    state_dir: StateDir = STATE_DIR,
) -> None:
    """End keys at once, also where they follow a job just now.

    **Example**: `chiron keys revoke 3f0c9a1b2d4e5f60`
    """
    from chiron.api.errors import KeyUnknown

    async def revoke(keys: "KeyRing") -> list[str]:
        return [key_id for key_id in ids if not await keys.revoke(key_id)]

    if unknown := _with_keys(state_dir, revoke):
        raise KeyUnknown(f"there is no key {', '.join(unknown)}: `chiron keys list` shows them")
    done(f"revoked {', '.join(ids)}")


@app.command("rotate")
def rotate_command(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key to replace.")],
    overlap: Overlap = 24,
    expires: Expires = None,
    state_dir: StateDir = STATE_DIR,
    json: Json = False,
) -> None:
    """Make a new key like an old one, which holds some hours longer; printed once, on stdout.

    The new key ends when the old one would have, unless --expires says otherwise.

    **Example**: `chiron keys rotate 3f0c9a1b2d4e5f60 --overlap 48 > clinic-a.key`
    """
    until = _until(expires)
    key, old = _with_keys(state_dir, lambda keys: keys.rotate(key_id, timedelta(hours=overlap), until))
    _tell_key(key, {"tenant": old.tenant, "role": old.role, "old_expires_at": old.expires_at}, as_json=json)
    note(f"the old key {old.id} holds until {old.expires_at}")


@app.command("add")
def add_command(
    tenant: Tenant,
    key_id: Annotated[str, typer.Option("--id", help="The id that `chiron keys request` printed.")],
    key_hash: Annotated[str, typer.Option("--hash", help="The hash that it printed.")],
    role: RoleOption = "owner",
    expires: Expires = None,
    label: Label = None,
    state_dir: StateDir = STATE_DIR,
) -> None:
    """Let in a key that its holder made with `chiron keys request`. You never see the key.

    **Example**: `chiron keys add --tenant clinic-a --id 3f0c9a1b2d4e5f60 --hash 9f86d0…`
    """
    from chiron.api.keys import KeyTerms, TenantRole

    terms = KeyTerms(tenant, TenantRole(role), _until(expires), label)
    _with_keys(state_dir, lambda keys: keys.register(key_id, key_hash, terms))
    done(f"key {key_id} of tenant {tenant} holds as {role}")


@app.command("request")
def request_command(
    out: Annotated[
        Path | None, typer.Option(help="File for the key (0600); unless given, in your configuration.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a key of your own that no operator ever sees: send them its id and hash, and nothing else.

    The key is written to a file of yours, never printed. Works once the operator has run `chiron keys add`.

    **Example**: `chiron keys request`
    """
    from chiron.client.configuration import keep_key
    from chiron.wire.apikeys import new_key

    made = new_key()
    path, used = keep_key(made.text, out)
    if json:
        print_json({"id": made.id, "sha256": made.secret_sha256, "file": str(path), "configured": used})
        return
    print(f"chiron keys add --tenant TENANT --id {made.id} --hash {made.secret_sha256}")
    done(f"{path} holds the key; send the line above to the operator, who fills in your tenant's name")
    if not used:
        note(f"your configuration names another key: once this one works, name {path} as its api_key_file")


def _with_keys(state_dir: Path, work: "Callable[[KeyRing], Awaitable[_Result]]") -> _Result:
    from chiron.api.keys import opened_keys
    from chiron.api.settings import Settings

    async def worked() -> _Result:
        async with opened_keys(Settings(state_dir=state_dir)) as keys:
            return await work(keys)

    return asyncio.run(worked())


def _until(expires: str | None) -> datetime | None:
    return time_named(expires, datetime.now(UTC)) if expires else None


def _tell_key(key: str, about: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(about | {"key": key})
        return
    print(key)
    note(f"a key of tenant {about['tenant']} as {about['role']}; give it to them through a safe channel")


def _described(row: "KeyRow") -> dict[str, Any]:
    from chiron.api.storage.tables import moment

    expired = row.expires_at is not None and row.expires_at <= moment(datetime.now(UTC))
    return {
        "id": row.id,
        "tenant": row.tenant,
        "role": row.role,
        "state": "revoked" if row.revoked_at else "expired" if expired else "holds",
        "expires": row.expires_at,
        "last_used": row.last_used_at,
        "created": row.created_at,
        "label": row.label,
        "job": row.job,
        "made_by_holder": row.by_hash,
    }
