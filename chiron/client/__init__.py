"""The data owner's side: datasets, keys, verification, and the two clients."""
