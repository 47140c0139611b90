"""`python -m knowcap`."""

from knowcap.cli import main

if __name__ == "__main__":
    main()
