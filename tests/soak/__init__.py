"""Replicas that are killed at random, and what must hold of the rows they leave."""
