"""Replicas that are killed at random, what must hold of the rows they leave, and `make soak`."""
