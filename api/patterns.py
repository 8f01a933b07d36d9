"""Path variables, each with the pattern that the router checks: what does not match is not found."""

IDENTIFIER = "{id:[0-9a-f]{32}}"
DIGEST = "{sha256:[0-9a-f]{64}}"
CHUNK = r"{number:0|[1-9]\d{0,6}}"
SHARD = r"{index:[1-9]\d?}"
OBJECT = "{name:[a-z][a-z0-9-]{0,63}}"
