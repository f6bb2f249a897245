"""Threads that harm whoever runs them, and healthy ones beside them."""
