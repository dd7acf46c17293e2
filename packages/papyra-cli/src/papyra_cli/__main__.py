"""``python -m papyra_cli``."""

from papyra_cli import main

main()
