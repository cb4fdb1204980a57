"""`python -m maskgit` and `accelerate launch -m maskgit`: the command line."""

from maskgit.cli import main

main()
