"""Where the control plane keeps metadata (a database) and ciphertext (blobs)."""
