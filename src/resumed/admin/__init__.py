"""Commands that need worker processes: doctor, inspection of threads, one attempt in the foreground."""
