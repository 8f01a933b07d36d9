"""Where the operator's side keeps things by default."""

import os
from pathlib import Path

from platformdirs import user_data_path

STATE_VARIABLE = "CHIRON_STATE"
STATE_DIR = Path(os.environ.get(STATE_VARIABLE) or user_data_path("chiron-gateway"))
"""The gateway's database, blobs and development TEE: `$CHIRON_STATE`, or the platform's data directory."""
IMAGE_FOLDER = "image"
"""In the state directory: the enclave image that `chiron serve` builds and launches."""
ROOT_FILE = "software-root.pem"
"""In the state directory: root certificate of the development TEE, for --trust-software-root."""
