"""`python -m services.cli`: the command `mediaforge`."""

from services.cli.main import main

main()
