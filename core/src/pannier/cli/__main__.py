"""`python -m pannier.cli` is the command `pannier`."""

from pannier.cli import main

main()
