"""Pure decisions: rows and the clock's reading go in, a verdict or a time comes out. Nothing here has an effect."""
