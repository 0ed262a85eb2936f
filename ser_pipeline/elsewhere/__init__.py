"""Run commands as tasks of a Slurm or Dask cluster. The shared folders are the queue; this code only starts commands."""
