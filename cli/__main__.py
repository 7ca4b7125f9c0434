"""`python -m hist_cli` is `hist`."""

from . import main

main()
