"""Keys: who a process is, and whom it lets in: a folder with its own private keys and the public ones of others."""
