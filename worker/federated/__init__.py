"""Federated clients: they train on data of their own for a while and ship what changed in the weights."""
