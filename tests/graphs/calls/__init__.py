"""Workflows whose nodes note what they were called with, and the application that is killed in their middle."""
