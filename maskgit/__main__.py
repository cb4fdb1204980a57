"""`python -m maskgit` and `accelerate launch -m maskgit`: the command line."""

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    main()
