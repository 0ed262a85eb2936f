"""`python -m ser_pipeline`: the same command as `ser-pipeline`."""

from importlib import import_module

if __name__ == "__main__":
    import_module("ser_pipeline.cli").main(prog_name="ser-pipeline")
