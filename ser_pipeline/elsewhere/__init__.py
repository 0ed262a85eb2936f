"""Run commands as tasks of a Slurm or Dask cluster. Shared folders are the queue; this code only starts commands."""
