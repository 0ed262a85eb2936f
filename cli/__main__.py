"""`python -m ser_pipeline.cli`: the same command, for `torchrun` and for machines without scripts on the path."""

from . import main

if __name__ == "__main__":
    main(prog_name="ser-pipeline")
