"""An example: a service that runs orders as registered runs, with the daemon as its sidecar."""
