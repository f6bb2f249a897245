"""Workflows that save their state through serializers of their own, and the application that dies in their middle."""
