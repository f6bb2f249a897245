"""Settings: what an operator may set, where each is read from, and what each may hold."""
