"""What people and machines see over HTTP: metrics and health now, the console's page later. Changes nothing."""
