"""The gateway: it stores ciphertext, launches enclaves, and carries messages that it cannot read.

`server` runs it, `applications` are its two doors (`public`, `enclave_door`), `gateway` holds its parts:
`jobs`, `builders`, `datasets` and `keys` over `storage`; `launchers` start the enclaves, on a `software_tee`
where there is no SGX.
"""
