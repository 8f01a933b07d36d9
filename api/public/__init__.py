"""The public HTTP API (`/v1/…`): handlers, a module for each kind of thing."""
