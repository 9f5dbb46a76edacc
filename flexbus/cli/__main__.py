"""`python -m flexbus.cli`: the one command, where no script is installed."""

from flexbus.cli import main

if __name__ == "__main__":
    main()
