"""`python -m credible` is `credible`."""

from credible.cli import main

main()
