"""Commands as tasks of a cluster, Slurm or Dask. The folders are the queue; what is here only starts commands."""
