"""The vocabulary of all parties: owner, gateway, enclaves, builders. It knows none of them and imports none.

Messages are in `attestation`, `contract`, `datasets`, `enclave_api`, `exchange`, `grants`, `jobs`, `launch`,
`public_api`, `quoting`, `reports` and `transparency`; `encoding` says how they are written. Facts that two
sides share are written once: `objects` (names and sizes in storage), `paths` (URLs), `codes` (refusals that
another side acts on), `labels` (what is signed and sealed for what). The rest is what every room needs:
`errors`, `bounded` reads, `retrying`, HTTP `answers` and `p256` certificates.
"""
