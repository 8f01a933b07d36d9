"""Launchers: where enclaves run. One for this machine, one for SGX machines with Occlum."""
