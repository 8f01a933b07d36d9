"""Training of an admitted graph by a recipe, inside an enclave."""
