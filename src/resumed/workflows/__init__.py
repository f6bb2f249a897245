"""What a registration says and how it is loaded. Knows user code only as far as to import it; runs no graph."""
