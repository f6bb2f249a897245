"""`python -m resumed_example` is the command `resumed-example`."""

from resumed_example.command import main

main()
