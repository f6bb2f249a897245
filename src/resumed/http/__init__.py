"""What people and machines see over HTTP: metrics and health. It changes nothing."""
