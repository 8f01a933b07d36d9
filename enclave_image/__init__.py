"""The enclave image: what runs inside, built reproducibly and measured; and its packaging for Occlum."""
