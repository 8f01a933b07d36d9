"""The development TEE: it stands where the processor and its quoting enclave stand, and protects nothing."""
