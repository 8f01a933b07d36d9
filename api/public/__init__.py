"""The public HTTP API (`/v1/…`): handlers, uploads, jobs, and messages to enclaves."""
