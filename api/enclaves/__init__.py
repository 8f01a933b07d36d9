"""The enclave-facing HTTP API (`/enclave/v1/…`)."""
